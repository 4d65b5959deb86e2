"""Files and folders that are there as a whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import save_file

from gradients.errors import DiskFull

if TYPE_CHECKING:
    import torch

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in its place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Put a file with this text in its place."""
    write_file(path, lambda temporary: temporary.write_text(text))


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], *, header: Mapping[str, str]) -> None:
    """Write a safetensors file. Raises DiskFull, which safetensors itself does not tell from other failures."""
    try:
        save_file(dict(tensors), path, metadata=dict(header))
    except SafetensorError as error:
        if any(f"(os error {number})" in str(error) for number in _NO_ROOM):
            raise DiskFull(f"No room for {path}: {error}", fix="Free some space") from error
        raise


def write_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary folder beside `path`, then put it in its place; an older folder there goes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        write(temporary)
        for file in temporary.iterdir():
            _sync(file)
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
