"""Locks on files; the kernel lets go of them when their holder dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from gradients.errors import SetupError
from gradients.files.disk import is_full, write_failure


@contextlib.contextmanager
def only_one(folder: Path, *, what: str) -> Iterator[None]:
    """Hold `folder` for the body. Raises SetupError when another process holds it or it cannot be made, and DiskFull."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        if is_full(error):
            raise write_failure(error, folder) from error
        raise SetupError(
            f"The folder {folder} cannot be used: {error.strerror}", fix="Choose another folder"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SetupError(
                f"Another {what} is at work in {folder}", fix="Stop it, or choose another folder"
            ) from error
        yield


@contextlib.contextmanager
def in_turn(lock: Path) -> Iterator[None]:
    """Wait for the lock file, and hold it for the body."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
