"""One process per folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
from collections.abc import Iterator
from pathlib import Path

from gradients.errors import DiskFull, SetupError


@contextlib.contextmanager
def only_one(folder: Path, *, what: str) -> Iterator[None]:
    """Hold `folder` for the body; the kernel lets go of it when the process dies, however it dies.

    Raises SetupError when another process holds it or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        kind = DiskFull if error.errno == errno.ENOSPC else SetupError
        raise kind(f"The folder {folder} cannot be used: {error.strerror}", fix="Choose another folder") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SetupError(
                f"Another {what} is at work in {folder}", fix="Stop it, or choose another folder"
            ) from error
        yield
