"""Text-to-image bases: which family of pipelines a folder holds, and its parts, loaded from **our** folder. Never called on a miner's.

Four families are told apart by the class that the base's own `model_index.json` names; everything that differs between them is in
`pipeline_families.py`. Components of other libraries than diffusers and transformers are refused, so no remote code is ever looked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn

from gradients.errors import ModelUnknown
from gradients.ml.device import Device, weights_dtype
from gradients.ml.held import held, hold
from gradients.ml.pipeline_families import FAMILIES, Family

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

INDEX, _FAMILY = "model_index.json", "image"
_LIBRARIES = frozenset({"diffusers", "transformers"})
_NOT_LOADED = ("safety_checker", "feature_extractor", "image_encoder")  # they change no pixel that is measured


@dataclass(frozen=True, slots=True)
class ImageBase:
    """A text-to-image model, ready to redraw images, to train on or to take a submission's weights."""

    pipeline: DiffusionPipeline  # its family's image-to-image pipeline
    family: Family
    device: Device
    folder: Path

    @property
    def denoiser(self) -> nn.Module:
        """The network that a LoRA changes."""
        network: nn.Module = getattr(self.pipeline, self.family.denoiser)
        return network

    def parts(self) -> nn.ModuleDict:
        """The networks that a LoRA may change, by the prefixes of diffusers' LoRA files."""
        names = (self.family.denoiser, *self.family.text_encoders)
        return nn.ModuleDict({name: part for name in names if (part := getattr(self.pipeline, name)) is not None})


def load_image_base(folder: Path, device: Device) -> ImageBase:
    """The pipeline in `folder`, frozen and in evaluation mode. Raises ModelUnknown when there is none that can be used.

    Where this process keeps it already, it is taken from there.
    """
    dtype = weights_dtype(device, _stored_bytes(folder)) or torch.bfloat16
    kept = held(_FAMILY, folder)
    base = replace(kept, device=device) if isinstance(kept, ImageBase) else _read(folder, device, dtype=dtype)
    for part in base.pipeline.components.values():
        if isinstance(part, nn.Module):
            part.to(device=device.name, dtype=dtype)
    return base


def compute_blocks_again(base: ImageBase) -> None:
    """Have each block of the denoiser computed once more in the backward pass, instead of keeping what it computed."""
    getattr(base.pipeline, base.family.denoiser).enable_gradient_checkpointing()


def hold_image_base(folder: Path, *, in_stored_precision: bool) -> None:
    """Keep the pipeline in `folder` in this process's memory, for `load_image_base`. Raises as that does."""
    dtype = torch.bfloat16 if in_stored_precision else torch.float32
    hold(_FAMILY, folder, lambda: _read(folder, Device("cpu"), dtype=dtype))


def _read(folder: Path, device: Device, *, dtype: torch.dtype) -> ImageBase:
    """The pipeline from its files, on the CPU."""
    index = _index(folder)
    family = FAMILIES.get(str(index.get("_class_name")))
    if family is None:
        raise ModelUnknown(
            f"{folder} holds a pipeline of an unknown family: {index.get('_class_name')}",
            fix=f"Use one of {', '.join(FAMILIES)}",
        )
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    for library in (of_diffusers, of_transformers):
        library.disable_progress_bar()
        library.set_verbosity_error()  # not a line for every caption that is longer than the encoder reads
    try:
        pipeline: DiffusionPipeline = family.image_to_image().from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            **{name: None for name in _NOT_LOADED if name in index},
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError) as error:
        raise ModelUnknown(f"The pipeline in {folder} cannot be loaded: {error}") from error
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.requires_grad_(False).eval()
    return ImageBase(pipeline, family, device, folder)


def _stored_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*/*.safetensors"))


def _index(folder: Path) -> Mapping[str, Any]:  # Any: JSON
    try:
        index = json.loads((folder / INDEX).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelUnknown(
            f"{folder} has no usable pipeline: {error}", fix=f"It needs {INDEX} and its folders"
        ) from error
    if not isinstance(index, dict):
        raise ModelUnknown(f"{folder / INDEX} is not a JSON object")
    for name, value in index.items():
        library = value[0] if isinstance(value, list) and value else "nowhere"
        if isinstance(value, list) and library not in (*_LIBRARIES, None) and name not in _NOT_LOADED:
            raise ModelUnknown(f"{folder}: {name} comes from {library}", fix="Use a pipeline of diffusers' own parts")
    return index
