"""Loads a base model and its tokenizer from a folder of ours. Never called on anything that a miner sent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from gradients.errors import ModelUnknown
from gradients.ml.device import Device, weights_dtype

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


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
        return int(self.model.config.get_text_config().vocab_size)

    @property
    def context(self) -> int:
        """Longest row that it can read, in tokens."""
        return int(self.model.config.get_text_config().max_position_embeddings)


def load_base(folder: Path, device: Device) -> LoadedBase:
    """The model in `folder`, frozen and in evaluation mode. Raises ModelUnknown when there is none that can be read."""
    files = sorted(folder.glob("*.safetensors"))
    if not files or not (folder / "config.json").is_file():
        raise ModelUnknown(f"{folder} holds no model", fix="It needs config.json and *.safetensors")
    transformers_logging.disable_progress_bar()
    dtype = weights_dtype(device, sum(file.stat().st_size for file in files))
    try:
        with safe_open(files[0], framework="pt") as tensors:
            stored = _DTYPES[tensors.get_slice(next(iter(tensors.keys()))).get_dtype()]
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype or stored,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="sdpa",
        )
    except (OSError, ValueError, KeyError, SafetensorError, json.JSONDecodeError) as error:
        raise ModelUnknown(f"The base model in {folder} cannot be loaded: {error}") from error
    model.requires_grad_(False).eval().to(device.name)
    return LoadedBase(model=model, tokenizer=tokenizer, device=device, folder=folder, stored_dtype=stored)
