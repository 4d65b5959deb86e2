"""What fetched sources share: bytes go into a file that cannot grow past its limit, under a name that is safe and tells the format."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from gradients.errors import DatasetInvalid
from gradients.files.disk import is_full, write_failure

LONGEST_STEM = 48


def save(chunks: Iterable[bytes], file: Path, *, max_bytes: int) -> None:
    """Write the chunks as they come. Raises DatasetInvalid with the first one too many, and DiskFull."""
    size = 0
    try:
        with file.open("xb") as stream:
            for chunk in chunks:
                size += len(chunk)
                check_size(size, file.name, max_bytes=max_bytes)
                stream.write(chunk)
    except OSError as error:
        if is_full(error):
            raise write_failure(error, file) from error
        raise


def check_size(size: int, name: str, *, max_bytes: int) -> None:
    """Raises DatasetInvalid for more bytes than are taken; `size` may be what was announced or what has come."""
    if size > max_bytes:
        raise DatasetInvalid(f"{name} has more than the {max_bytes:,} bytes that are read", fix="Give a part of it")


def safe_stem(path: str) -> str:
    """A file name for messages and for this machine, of the last part of a URL's path or of a key, less its ending."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", PurePosixPath(path).stem)[:LONGEST_STEM].strip("-") or "rows"
