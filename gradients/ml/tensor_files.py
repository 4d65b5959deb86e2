"""Safetensors files, written so that a full disk is told apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import save_file

from gradients.errors import DiskFull
from gradients.files.disk import NO_ROOM

if TYPE_CHECKING:
    import torch


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], *, header: Mapping[str, str]) -> None:
    """Write a safetensors file. Raises DiskFull, which safetensors itself does not tell from other failures."""
    try:
        save_file(dict(tensors), path, metadata=dict(header))
    except SafetensorError as error:
        if any(f"(os error {number})" in str(error) for number in NO_ROOM):
            raise DiskFull(
                f"There is no room for {path.name} in {path.parent}: {error}", fix="Free some space"
            ) from error
        raise
