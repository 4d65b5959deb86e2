"""What a disk refuses, in the project's words: a full one is told from every other fault, everywhere by the same list."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from gradients.errors import DiskFull, OperatorError

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # no space, no quota, larger than a file may be

FREE_BYTES_KEPT = 256 * 1024 * 1024  # by whoever asks before it writes; ledgers and journals must still be written then


def check_room(folder: Path, size_bytes: int, *, kept_bytes: int = FREE_BYTES_KEPT) -> None:
    """Raises DiskFull when `size_bytes` more would leave less than `kept_bytes` on the disk of a folder that exists."""
    free = shutil.disk_usage(folder).free
    if free - size_bytes < kept_bytes:
        raise DiskFull(f"{size_bytes:,} bytes are needed in {folder} and {free:,} are free", fix="Free some space")


def is_full(error: BaseException) -> bool:
    """Whether the disk, a quota or a limit on file sizes is what is in the way."""
    return isinstance(error, OSError) and error.errno in NO_ROOM


def write_failure(error: OSError, path: Path) -> OperatorError:
    """What to raise when `path` could not be written."""
    if is_full(error):
        return DiskFull(f"There is no room for {path.name} in {path.parent}", fix="Free some space")
    return OperatorError(f"{path} cannot be written: {error.strerror or error}", code="unwritable")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """A disk's OSErrors of the body are about writing `path`: raises DiskFull or OperatorError (unwritable) for them.

    TimeoutError and ConnectionError pass: Python makes OSErrors of what a network does too, and a disk is not to blame for it.
    """
    try:
        yield
    except (TimeoutError, ConnectionError):
        raise
    except OSError as error:
        raise write_failure(error, path) from error
