"""Files that a worker on strangers' bytes has left: taken when they are plain files of a bounded size.

Covers: a link to a file of ours, which would be read or even handed out in its place; pipes, devices and folders under the name; more bytes
than anybody expects. Does not cover: what the bytes say, and writers that go on meanwhile; a worker has ended by then.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gradients.errors import OperatorError


def read_plain(path: Path, *, most_bytes: int) -> bytes:
    """The file's bytes. Raises FileNotFoundError, and OperatorError (unexpected_file) for anything else than such a file."""
    descriptor = _open(path)
    with os.fdopen(descriptor, "rb") as stream:
        _check(path, os.fstat(descriptor), most_bytes)
        return stream.read(most_bytes)


def read_head(path: Path, *, bytes_wanted: int) -> bytes:
    """The first bytes of a plain file of any size. Raises FileNotFoundError, and OperatorError (unexpected_file) for anything else."""
    descriptor = _open(path)
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        _check(path, found, found.st_size)
        return stream.read(bytes_wanted)


def read_tail(path: Path, *, most_bytes: int) -> bytes:
    """The last bytes of a plain file of any size. Raises FileNotFoundError, and OperatorError (unexpected_file) for anything else."""
    descriptor = _open(path)
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        _check(path, found, found.st_size)
        stream.seek(max(0, found.st_size - most_bytes))
        return stream.read(most_bytes)


def check_plain(path: Path, *, most_bytes: int) -> Path:
    """The path, when a plain file lies there. Raises as `read_plain` does."""
    _check(path, path.lstat(), most_bytes)
    return path


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:  # a link; or a folder on the way that is not one
        raise OperatorError(f"{path} is not a plain file: {error.strerror}", code="unexpected_file") from error


def _check(path: Path, found: os.stat_result, most_bytes: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OperatorError(f"{path} is not a plain file", code="unexpected_file")
    if found.st_size > most_bytes:
        raise OperatorError(
            f"{path} has {found.st_size:,} bytes; at most {most_bytes:,} were expected", code="unexpected_file"
        )
