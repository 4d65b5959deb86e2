"""Locks on files; the kernel lets go of them when their holder dies, however it dies. Processes that don't ask are not kept out."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from gradients.errors import SetupError
from gradients.files.disk import is_full, write_failure, writing


@contextlib.contextmanager
def only_one(folder: Path, *, what: str) -> Iterator[None]:
    """Hold `folder` for the body. Raises SetupError when another process holds it or it cannot be used, and DiskFull."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open_alone(folder / ".lock")
    except BlockingIOError as error:
        raise SetupError(f"Another {what} is at work in {folder}", fix="Stop it, or choose another folder") from error
    except OSError as error:
        if is_full(error):
            raise write_failure(error, folder) from error
        raise SetupError(
            f"The folder {folder} cannot be used: {error.strerror}", fix="Choose another folder"
        ) from error
    with file:
        yield


@contextlib.contextmanager
def in_turn(lock: Path) -> Iterator[None]:
    """Wait for the lock file, and hold it for the body. Raises DiskFull and OperatorError (unwritable) when there can be none."""
    with contextlib.ExitStack() as held:
        with writing(lock):
            file = held.enter_context(lock.open("w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def open_alone(path: Path) -> FileIO:
    """A file for reading and writing, made if it is missing, which nobody else opens like this until it is closed.

    Raises BlockingIOError when somebody else has it, or has just moved it away, and OSError when it cannot be opened.
    """
    file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.exists() or path.stat().st_ino != os.fstat(file.fileno()).st_ino:
            raise BlockingIOError(f"{path} was moved while it was opened")
    except BaseException:
        file.close()
        raise
    return file
