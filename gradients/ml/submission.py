"""Puts a miner's weights into our base model and takes them out again.

Covers: nothing of a miner is ever loaded by a library that builds models from files. Its config is data, of which few keys count;
its tensors are taken by name, checked for shape, precision and finite numbers, and copied into weights of ours. Afterwards every
bit of the base is as before. Does not cover: names, sizes and number of files, which screening has limited before.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import nn

from gradients.errors import OperatorError, SubmissionRejected

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER_CONFIG, ADAPTER_WEIGHTS, FULL_WEIGHTS = "adapter_config.json", "adapter_model.safetensors", "model*.safetensors"
MAX_RANK = 256
_MAX_CONFIG_BYTES = 1024 * 1024
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_ADAPTER_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
# Keys whose value changes nothing in what we compute; every other key that we don't read must be off.
_WITHOUT_EFFECT = {
    *("auto_mapping", "base_model_name_or_path", "inference_mode", "lora_dropout", "megatron_core", "peft_version"),
    *("qalora_group_size", "revision", "task_type"),
}


class AdapterConfig(BaseModel):
    """What of an adapter_config.json counts: a plain LoRA."""

    model_config = ConfigDict(extra="allow", frozen=True)

    peft_type: Literal["LORA"]
    r: int = Field(ge=1, le=MAX_RANK)
    lora_alpha: float = Field(gt=0, le=1e4, allow_inf_nan=False)
    target_modules: tuple[str, ...]
    use_rslora: bool = False
    bias: Literal["none"] = "none"
    # Other ways to start (PiSSA, OLoRA, ...) change the base where a customer loads the adapter, so it would not be what we measured.
    init_lora_weights: Literal[True, False, "gaussian", "orthogonal"] = True

    @property
    def scale(self) -> float:
        """What the product of the factors is multiplied by."""
        return self.lora_alpha / (math.sqrt(self.r) if self.use_rslora else self.r)

    def targets(self, module: str) -> bool:
        """Whether the adapter says that it changes `module`."""
        return any(module == target or module.endswith(f".{target}") for target in self.target_modules)


class NewWeight(NamedTuple):
    """One of the base's weights as the submission wants it."""

    name: str
    value: torch.Tensor


@contextmanager
def applied(model: PreTrainedModel, folder: Path | None) -> Iterator[Mapping[str, torch.Tensor]]:
    """The context in which `model` is the submission in `folder`, or itself when there is none; yields what `changed` yields.

    Raises SubmissionRejected when the submission cannot be applied, and OperatorError when the base did not come back bit by bit.
    """
    weights: Iterable[NewWeight] = ()
    if folder is not None:
        full = sorted(folder.glob(FULL_WEIGHTS))
        is_adapter = (folder / ADAPTER_CONFIG).is_file()
        if is_adapter == bool(full):
            raise SubmissionRejected(
                f"The repo must hold an adapter or a model: {ADAPTER_CONFIG} or {FULL_WEIGHTS}", code="repo_kind"
            )
        weights = _merged(model, folder) if is_adapter else _copied(model, full)
    with changed(model, weights) as replaced:
        yield replaced


@contextmanager
def changed(model: nn.Module, weights: Iterable[NewWeight]) -> Iterator[Mapping[str, torch.Tensor]]:
    """The context in which `model` has these weights instead of its own; yields those that they replace, by name, on the CPU.

    Raises SubmissionRejected for weights that are not finite, and OperatorError when the model did not come back bit by bit.
    """
    before = fingerprint(model)
    parameters = dict(model.named_parameters())
    clean: dict[str, torch.Tensor] = {}
    try:
        with torch.no_grad():
            for name, value in weights:
                if not torch.isfinite(value).all():
                    raise SubmissionRejected(f"{name} holds NaN or infinity", code="tensor_not_finite")
                clean[name] = parameters[name].detach().to("cpu", copy=True)
                parameters[name].copy_(value)
        yield clean
    finally:
        with torch.no_grad():
            for name, value in clean.items():
                parameters[name].copy_(value)
    if fingerprint(model) != before:
        raise OperatorError("The base model changed while a submission was measured", code="base_changed")


def fingerprint(model: nn.Module) -> tuple[int, ...]:
    """Sums over the bits of each weight; equal for equal weights, and different for any that we would ever see."""
    views = {2: torch.int16, 4: torch.int32}
    return tuple(
        int(parameter.detach().view(views[parameter.element_size()]).sum(dtype=torch.int64))
        for parameter in model.parameters()
    )


def _copied(model: PreTrainedModel, files: list[Path]) -> Iterator[NewWeight]:
    """Every weight of the base, each exactly once, from the files of a full model."""
    missing = {name: parameter.shape for name, parameter in model.named_parameters()}
    for name, value in read_tensors(files):
        if name not in missing:
            raise SubmissionRejected(f"{name} is not a weight of the base, or is there twice", code="tensor_unknown")
        check_shape(name, value, tuple(missing.pop(name)))
        yield NewWeight(name, value)
    if missing:
        raise SubmissionRejected(
            f"{len(missing)} weights are missing, {min(missing)} among them", code="tensor_missing"
        )


def _merged(model: PreTrainedModel, folder: Path) -> Iterator[NewWeight]:
    """W + scale · B @ A for every linear layer that the adapter changes, multiplied in float32."""
    config = read_adapter_config(folder / ADAPTER_CONFIG)
    head = model.get_output_embeddings()  # may share its weight with the embeddings
    layers = {n: layer for n, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer is not head}
    for module, factors in lora_factors(folder / ADAPTER_WEIGHTS, _ADAPTER_TENSOR).items():
        if module not in layers or not config.targets(module):
            raise SubmissionRejected(
                f"{module} is not a linear layer that the adapter may change", code="tensor_unknown"
            )
        if set(factors) != {"A", "B"}:
            raise SubmissionRejected(f"{module} has only one of lora_A and lora_B", code="tensor_missing")
        weight = layers[module].weight.detach()
        check_shape(f"{module}.lora_A", factors["A"], (config.r, weight.shape[1]))
        check_shape(f"{module}.lora_B", factors["B"], (weight.shape[0], config.r))
        a, b = (factors[side].to(weight.device, torch.float32) for side in "AB")
        yield NewWeight(f"{module}.weight", (weight.float() + config.scale * (b @ a)).to(weight.dtype))


def read_adapter_config(path: Path) -> AdapterConfig:
    """The config of a plain LoRA. Raises SubmissionRejected for anything that would make the adapter more than that."""
    try:
        with path.open("rb") as file:
            config = AdapterConfig.model_validate_json(file.read(_MAX_CONFIG_BYTES))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise SubmissionRejected(f"{ADAPTER_CONFIG}: {where}: {first['msg']}", code="adapter_config_invalid") from error
    for key, value in (config.model_extra or {}).items():
        if value and key not in _WITHOUT_EFFECT:
            raise SubmissionRejected(
                f"{ADAPTER_CONFIG}: {key} is not supported", code="adapter_setting_refused", fix="Hand in a plain LoRA"
            )
    return config


def lora_factors(file: Path, name_of_factor: re.Pattern[str]) -> dict[str, dict[str, torch.Tensor]]:
    """LoRA factors by module and side, "A" or "B".

    Args:
        name_of_factor: what every tensor's name must be, with the groups `module` and `side`.
    """
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in read_tensors([file]):
        match = name_of_factor.fullmatch(name)
        if match is None:
            raise SubmissionRejected(f"{name} is not a factor of a LoRA", code="tensor_unknown")
        found.setdefault(match["module"], {})[match["side"]] = value
    if not found:
        raise SubmissionRejected(f"{file.name} is empty", code="tensor_missing")
    return found


def read_tensors(files: list[Path]) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors of all files, one in memory at a time."""
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a dict)
                    yield name, tensors.get_tensor(name)
        except (SafetensorError, FileNotFoundError) as error:
            raise SubmissionRejected(f"{file.name} cannot be read: {error}", code="tensors_unreadable") from error


def check_shape(name: str, value: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Raises SubmissionRejected for a tensor of another shape, or of a precision that no honest model has."""
    if value.dtype not in _DTYPES:
        raise SubmissionRejected(f"{name} is {value.dtype}, not a float of 16 or 32 bits", code="tensor_dtype")
    if tuple(value.shape) != shape:
        raise SubmissionRejected(f"{name} has shape {tuple(value.shape)}, not {shape}", code="tensor_shape")
