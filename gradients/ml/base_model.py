"""Loads a base model and its tokenizer from a folder of ours. Never called on anything that a miner sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from gradients.errors import ModelUnknown
from gradients.ml.device import Device, is_larger_than_one, weights_dtype
from gradients.ml.held import held, hold
from gradients.ml.low_bits import four_bit_config, keep_differentiable

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

ANY_LENGTH = 131_072  # tokens: the longest row that a task may ask for
LARGEST_TEXT_FILE_BYTES = 128 * 1024**2  # the largest tokenizer.json of published bases has 34 MiB
_CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length")
_FAMILY = "language"
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

# whatever transformers raises for files that don't fit together; running out of memory is not among it
_UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ImportError,
    SafetensorError,
    StrictDataclassError,
)


class ReadsText(Protocol):
    """What of a base decides how texts become tokens."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def context(self) -> int: ...


class TextBase(NamedTuple):
    """A base without its weights."""

    tokenizer: PreTrainedTokenizerBase
    config: PretrainedConfig
    vocabulary: int
    context: int


@dataclass(frozen=True, slots=True)
class LoadedBase:
    """A base model, ready to measure, to train on or to take a submission's weights."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: Device
    folder: Path
    stored_dtype: torch.dtype  # of the weights on disk

    @property
    def vocabulary(self) -> int:
        """Number of entries that the model tells apart."""
        return _vocabulary(self.model.config)

    @property
    def context(self) -> int:
        """Longest row that it can read, in tokens."""
        return _context(self.model.config)


def read_base(folder: Path) -> TextBase:
    """How the base in `folder` reads texts; no weights are loaded. Raises ModelUnknown."""
    _check_files(folder)
    tokenizer = load_tokenizer(folder)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return TextBase(tokenizer, config, _vocabulary(config), _context(config))
    except _UNREADABLE as error:
        raise _unusable(folder, error) from error


def load_base(folder: Path, device: Device, *, in_4bit: bool = False) -> LoadedBase:
    """The model in `folder`, frozen and in evaluation mode. Raises ModelUnknown when there is none that can be read.

    Where this process keeps it already, it is taken from there. One that is larger than a GPU lies on all that this process sees.

    Args:
        in_4bit: quantise its matrices on the way to the device, which never holds all of them unquantised.
    """
    files = _check_files(folder)
    if in_4bit:
        dtype = torch.float32 if device.autocast_dtype is None else None
        placed = {"device_map": {"": device.name}, "quantization_config": four_bit_config(device)}
        base = _read(folder, files, device, dtype=dtype, placed=placed)
        keep_differentiable(base.model)
        return base
    size = sum(file.stat().st_size for file in files)
    dtype = weights_dtype(device, size)
    spread = is_larger_than_one(device, size)
    kept = held(_FAMILY, folder)
    if isinstance(kept, LoadedBase) and not spread:
        kept.model.to(device=device.name, dtype=dtype or kept.stored_dtype)
        return replace(kept, device=device)
    base = _read(folder, files, device, dtype=dtype, placed={"device_map": "auto"} if spread else {})
    if not spread:
        base.model.to(device.name)
    return base


def hold_base(folder: Path, *, in_stored_precision: bool) -> None:
    """Keep the model in `folder` in this process's memory, for `load_base`. Raises as that does."""
    dtype = None if in_stored_precision else torch.float32
    hold(_FAMILY, folder, lambda: _read(folder, _check_files(folder), Device("cpu"), dtype=dtype, placed={}))


def _read(
    folder: Path, files: list[Path], device: Device, *, dtype: torch.dtype | None, placed: Mapping[str, object]
) -> LoadedBase:
    """The model from its files.

    Args:
        placed: what transformers is told of devices; on the CPU by default.
    """
    transformers_logging.disable_progress_bar()
    tokenizer = load_tokenizer(folder)
    try:
        with safe_open(files[0], framework="pt") as tensors:
            stored = _DTYPES[tensors.get_slice(next(iter(tensors.keys()))).get_dtype()]
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, told = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype or stored,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            attn_implementation=attention_of(config),
            **placed,
        )
    except _UNREADABLE as error:
        raise _unusable(folder, error) from error
    except RuntimeError as error:  # transformers' own for tensors of other shapes; torch's for no memory is one too
        if "mismatch" not in str(error):
            raise
        raise _unusable(folder, error) from error
    if missing := sorted(told["missing_keys"]):
        raise ModelUnknown(
            f"The base model in {folder} lacks {len(missing)} of its tensors, {missing[0]} first",
            code="base_incomplete",
            fix="Choose another base; these would be random numbers",
        )
    model.requires_grad_(False).eval()
    return LoadedBase(model=model, tokenizer=tokenizer, device=device, folder=folder, stored_dtype=stored)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The base's tokenizer alone, which knows an end of text where tokenizer or config name one. Raises ModelUnknown."""
    for file in folder.iterdir():
        if file.suffix != ".safetensors" and file.is_file() and file.stat().st_size > LARGEST_TEXT_FILE_BYTES:
            raise ModelUnknown(
                f"{file.name} of the base has {file.stat().st_size / 2**20:,.0f} MiB, "
                f"more than a tokenizer or a config may have ({LARGEST_TEXT_FILE_BYTES // 2**20})",
                code="base_too_large",
                fix="Choose another base",
            )
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        if tokenizer.eos_token is None and (end := _end_of_text(folder)) is not None:
            tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    except Exception as error:  # tokenizers raises nothing more exact for files that it cannot read
        raise _unusable(folder, error) from error
    return tokenizer


def attention_of(config: PretrainedConfig) -> Literal["sdpa", "eager"]:
    """The way to compute attention: torch's own where the architecture knows it, and the plain one elsewhere. Raises ModelUnknown."""
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelUnknown(
            f"'{config.model_type}' is not an architecture of causal language models in transformers",
            code="architecture_unknown",
            fix="Choose a base that AutoModelForCausalLM can load",
        )
    return "sdpa" if MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]._supports_sdpa else "eager"


def _check_files(folder: Path) -> list[Path]:
    """The files with weights, in order."""
    files = sorted(folder.glob("*.safetensors"))
    if not files or not (folder / "config.json").is_file():
        raise ModelUnknown(f"{folder} holds no model", fix="It needs config.json and *.safetensors")
    return files


def _vocabulary(config: PretrainedConfig) -> int:
    return int(config.get_text_config().vocab_size)


def _context(config: PretrainedConfig) -> int:
    named = (getattr(config.get_text_config(), name, None) for name in _CONTEXT)
    # an architecture that counts no positions reads rows of any length
    return int(next((most for most in named if isinstance(most, int) and most > 0), ANY_LENGTH))


def _end_of_text(folder: Path) -> int | None:
    """The number of the token that the base's configs name as an end of text; the first of several."""
    for name in ("generation_config.json", "config.json"):
        with suppress(FileNotFoundError):
            end = json.loads((folder / name).read_bytes()).get("eos_token_id")
            number = end[0] if isinstance(end, list) and end else end
            if isinstance(number, int):
                return number
    return None


def _unusable(folder: Path, error: Exception) -> ModelUnknown:
    said = " ".join(str(error).split())[:200]
    return ModelUnknown(
        f"The base model in {folder} cannot be loaded: {type(error).__name__}: {said}", fix="Choose another base"
    )
