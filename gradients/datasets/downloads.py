"""What fetched sources share: bytes go into a file that cannot grow past its limit, under a name that is safe and tells the format.

Covers: the disk keeps some room, a source that drips ends soon, and one that never ends ends with its deadline, or as soon as nobody waits.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from gradients.errors import DatasetInvalid, OutsideError
from gradients.files.disk import check_room, is_full, write_failure

LONGEST_STEM = 48
FETCH_SECONDS = 1800.0  # for all data sets of a task together
LOOK_BYTES = 16 * 1024**2  # between two looks at the disk
START_SECONDS = 30.0  # before a source's speed counts
LEAST_BYTES_PER_SECOND = 16_384  # on average; what the API asks of uploads too


class Deadline:
    """When a fetch has to end. Whoever no longer waits for it brings that forward; a fetch runs in a thread, which nobody can end."""

    def __init__(self, seconds: float = FETCH_SECONDS) -> None:
        self._at = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then; below 0 afterwards."""
        return self._at - time.monotonic()

    def end(self) -> None:
        """From now on it is over."""
        self._at = -math.inf

    def check(self, name: str) -> None:
        """Raises OutsideError when it is over."""
        if self.left() <= 0:
            raise OutsideError(f"{name} took too long as a whole", fix="Is its server slow?")


def save(
    chunks: Iterable[bytes],
    file: Path,
    *,
    max_bytes: int,
    look_bytes: int = LOOK_BYTES,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Write the chunks as they come.

    Args:
        look_bytes: that the disk must have room for whenever so many have come.

    Raises DatasetInvalid with the first one too many, OutsideError for chunks that come too slowly, and DiskFull before the disk has no
    room left.
    """
    size, looked, began = 0, -look_bytes, clock()
    try:
        with file.open("xb") as stream:
            for chunk in chunks:
                size += len(chunk)
                check_size(size, file.name, max_bytes=max_bytes)
                _check_speed(size, clock() - began, file.name)
                if size - looked >= look_bytes:
                    check_room(file.parent, look_bytes)
                    looked = size
                stream.write(chunk)
    except OSError as error:
        if is_full(error):
            raise write_failure(error, file) from error
        raise


def check_size(size: int, name: str, *, max_bytes: int) -> None:
    """Raises DatasetInvalid for more bytes than are taken; `size` may be what was announced or what has come."""
    if size > max_bytes:
        fix = "Give a part of it; all data sets of a task have one limit"
        raise DatasetInvalid(f"{name} has more than the {max_bytes:,} bytes that are read", fix=fix)


def _check_speed(size: int, seconds: float, name: str) -> None:
    if seconds > START_SECONDS and size < seconds * LEAST_BYTES_PER_SECOND:
        problem = f"{name} comes with less than {LEAST_BYTES_PER_SECOND:,} bytes a second"
        raise OutsideError(problem, fix="Is its server slow? Upload the file instead")


def safe_stem(path: str) -> str:
    """A file name for messages and for this machine, of the last part of a URL's path or of a key, less its ending."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", PurePosixPath(path).stem)[:LONGEST_STEM].strip("-") or "rows"
