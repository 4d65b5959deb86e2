"""LoRAs of text-to-image models, in diffusers' one-file format: made, written, and a miner's merged into our base.

Covers: of a miner's file only named tensors count; each must be a factor for a layer of ours, in its shape, finite, of one rank within a
network, and the header must say nothing that loaders act on. So what a customer loads is what was measured. Does not cover: names, sizes
and number of files, which screening has limited before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from gradients.errors import SubmissionRejected
from gradients.ml.adapters import LoraShape
from gradients.ml.low_bits import counted_as_absent
from gradients.ml.pipelines import ImageBase
from gradients.ml.submission import Factor, NewWeight, Replaced, changed, check_shape, lora_factors
from gradients.ml.submission_configs import MAX_RANK
from gradients.ml.tensor_files import write_tensors

with counted_as_absent():
    from peft import LoraConfig, inject_adapter_in_model

WEIGHTS = "pytorch_lora_weights.safetensors"
# The names that diffusers' own scripts and loaders have used, newest first, and kohya's: part, layer, side.
_PARTS = r"(?P<part>unet|transformer|text_encoder|text_encoder_2)"
_FACTORS = (
    re.compile(rf"(?P<module>{_PARTS}\..+)\.lora_(?P<side>[AB])\.weight"),
    re.compile(rf"(?P<module>{_PARTS}\..+)\.lora(?:_linear_layer)?\.(?P<side>down|up)\.weight"),
    re.compile(
        rf"(?P<module>{_PARTS}\..+)\.processor\.(?P<layer>to_q|to_k|to_v|to_out)_lora\.(?P<side>down|up)\.weight"
    ),
)
_KOHYA = re.compile(
    r"lora_(?P<part>unet|te|te1|te2)_(?P<flat>\w+)\.(?:lora_(?P<side>down|up)\.weight|(?P<alpha>alpha))"
)
_KOHYA_PARTS = {"unet": "unet", "te": "text_encoder", "te1": "text_encoder", "te2": "text_encoder_2"}
_SIDES = {"A": "A", "B": "B", "down": "A", "up": "B", "alpha": "alpha"}
_HEADER = {"format": "pt"}
MAX_ALPHA = 1e4
_ATTENTION = re.compile(r".*\.(to_q|to_k|to_v|to_out\.0|add_[qkv]_proj|to_add_out|proj_in|proj_out)")

Targets = Literal["attention", "all"]


@contextmanager
def lora_applied(base: ImageBase, folder: Path | None) -> Iterator[Mapping[str, Replaced]]:
    """The context in which `base` is the submission in `folder`, or itself when there is none; yields what `changed` yields.

    Raises SubmissionRejected when the submission cannot be applied, and OperatorError when the base did not come back bit by bit.
    """
    parts = base.parts()
    with changed(parts, lora_weights(parts, folder / WEIGHTS) if folder else ()) as replaced:
        yield replaced


def add_lora(base: ImageBase, shape: LoraShape, *, targets: Targets, text_encoders: bool) -> None:
    """Put a fresh LoRA on the denoiser, perhaps on the text encoders too; only it trains, in float32. Uses torch's global seed."""
    for name, part in base.parts().items():
        if name == base.family.denoiser or text_encoders:
            chosen = "all" if name != base.family.denoiser else targets
            modules = [module for module in _layers(part) if chosen == "all" or _ATTENTION.fullmatch(module)]
            config = LoraConfig(
                r=shape.rank,
                lora_alpha=shape.alpha,
                lora_dropout=shape.dropout,
                use_rslora=shape.rank_stabilised,
                target_modules=modules,
            )
            with counted_as_absent():
                inject_adapter_in_model(config, part)
            for weight in part.parameters():
                if weight.requires_grad:  # in bfloat16, as narrow weights lie, small steps would be rounded away
                    weight.data = weight.data.float()


def write_lora(base: ImageBase, folder: Path, shape: LoraShape) -> None:
    """Write the LoRA as diffusers reads it: alpha is the rank, so the scale goes into the factors B."""
    scale = shape.alpha / (shape.rank**0.5 if shape.rank_stabilised else shape.rank)
    tensors = {
        name.replace(".default.", "."): (scale if ".lora_B." in name else 1.0) * weight.detach().float().cpu()
        for name, weight in base.parts().named_parameters()
        if ".lora_" in name
    }
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_tensors(folder / WEIGHTS, tensors, header=_HEADER)


def _layers(part: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    """The layers that a LoRA may change, by name."""
    return {
        name: layer
        for name, layer in part.named_modules()
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
    }


def lora_weights(parts: nn.ModuleDict, file: Path) -> Iterator[NewWeight]:
    """W + B · A for every layer that the submission changes, multiplied in float32; times alpha over rank where kohya's names are used."""
    _check_header(file)
    layers, ranks = _layers(parts), dict[str, int]()
    flat = {module.replace(".", "_"): module for module in layers}

    def meaning(name: str) -> Factor | None:
        return _factor(name, flat)

    for module, factors in lora_factors(file, meaning).items():
        scale = _scale(module, factors.pop("alpha", None), factors)
        if module not in layers:
            raise SubmissionRejected(f"{module} is not a layer that a LoRA may change", code="tensor_unknown")
        if set(factors) != {"A", "B"}:
            raise SubmissionRejected(f"{module} has only one of lora_A and lora_B", code="tensor_missing")
        rank = factors["A"].shape[0] if factors["A"].ndim else 0
        if not 1 <= rank <= MAX_RANK:
            raise SubmissionRejected(f"{module} has rank {rank}, not 1 to {MAX_RANK}", code="tensor_shape")
        # loaders of some versions scale wrongly where ranks differ within a network
        if ranks.setdefault(module.partition(".")[0], rank) != rank:
            raise SubmissionRejected(f"{module} has rank {rank}, and others have another one", code="rank_differs")
        weight = layers[module].weight.detach()
        check_shape(f"{module}.lora_A", factors["A"], (rank, *weight.shape[1:]))
        check_shape(f"{module}.lora_B", factors["B"], (weight.shape[0], rank, *(1 for _ in weight.shape[2:])))
        a, b = (factors[side].to(weight.device, torch.float32).flatten(1) for side in "AB")
        change = (scale * (b @ a)).view(weight.shape)
        yield NewWeight(f"{module}.weight", (weight.float() + change).to(weight.dtype))


def _factor(name: str, flat: Mapping[str, str]) -> Factor | None:
    """What a tensor is, in whichever of the known spellings. `flat`: layers by their names with underscores for dots."""
    for spelling in _FACTORS:
        if found := spelling.fullmatch(name):
            layer = found.groupdict().get("layer")
            module = f"{found['module']}.{layer}" if layer else found["module"]
            return Factor(f"{module}.0" if layer == "to_out" else module, _SIDES[found["side"]])
    if found := _KOHYA.fullmatch(name):
        part, flat_name = _KOHYA_PARTS[found["part"]], found["flat"]
        side = _SIDES[found["side"] or found["alpha"]]
        return Factor(flat.get(f"{part}_{flat_name}", f"{part}.{flat_name}"), side)
    return None


def _scale(module: str, alpha: torch.Tensor | None, factors: Mapping[str, torch.Tensor]) -> float:
    """What the product of a layer's factors is multiplied by. Raises SubmissionRejected for an alpha that no honest file has."""
    if alpha is None:
        return 1.0
    if alpha.numel() != 1 or not alpha.dtype.is_floating_point or not 0 < float(alpha) <= MAX_ALPHA:
        raise SubmissionRejected(f"{module}.alpha is not a number from 0 to {MAX_ALPHA:g}", code="tensor_shape")
    rank = factors["A"].shape[0] if "A" in factors and factors["A"].ndim else 1
    return float(alpha) / max(rank, 1)


def _check_header(file: Path) -> None:
    """diffusers takes scales out of a header where there are some."""
    try:
        with safe_open(file, framework="pt") as tensors:
            header = tensors.metadata() or {}
    except (SafetensorError, FileNotFoundError) as error:
        raise SubmissionRejected(f"{file.name} cannot be read: {error}", code="tensors_unreadable") from error
    if unknown := sorted(header.keys() - _HEADER.keys()):
        raise SubmissionRejected(f"The header of {file.name} says {unknown[0][:80]!r}", code="header_not_allowed")
