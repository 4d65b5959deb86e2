"""From a source to its rows: fetched if need be, read by format, counted and measured as they come.

Covers: size, row and encoding limits, one clear error with row numbers for whatever cannot be used. Does not cover: how files are read
(formats.py), how they are fetched (hub.py, urls.py, s3.py), and what the rows mean (each task type's `clean`).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from gradients.datasets.access import OUTSIDERS, Access
from gradients.datasets.downloads import Deadline
from gradients.datasets.formats import rows_in
from gradients.datasets.rows import Row, numbers
from gradients.datasets.sources import DEFAULT_LIMITS, DatasetLimits, FileSource, HubSource, Source, UrlSource
from gradients.datasets.spool import Spool
from gradients.errors import DatasetInvalid

_NO_TEXT = re.compile("[\x00\ud800-\udfff]")


def read_rows(
    source: Source,
    *,
    wanted: Collection[str] | None = None,
    limits: DatasetLimits = DEFAULT_LIMITS,
    access: Access = OUTSIDERS,
) -> Sequence[Row]:
    """All rows in their own order, on the disk. Raises DatasetInvalid with row numbers, and OutsideError when a server does not answer.

    Args:
        wanted: names among which those of the columns are that the task reads; tables convert no others. None: all.
    """
    with tempfile.TemporaryDirectory(prefix="gradients-rows-") as folder:
        return read_file(fetch(source, Path(folder), limits=limits, access=access), wanted=wanted, limits=limits)


def fetch(
    source: Source,
    folder: Path,
    *,
    limits: DatasetLimits = DEFAULT_LIMITS,
    access: Access = OUTSIDERS,
    deadline: Deadline | None = None,
) -> Path:
    """The source's file, in `folder` (which is empty) unless it is on this machine. Rows of a URL or a store are not looked at here.

    Raises DatasetInvalid for more bytes than are taken, OutsideError, also at the deadline, and DiskFull.
    """
    deadline = deadline or Deadline()
    if isinstance(source, FileSource):
        return source.path
    if isinstance(source, HubSource):  # what fetches is imported only when it is needed
        from gradients.datasets import hub

        return hub.fetch(source.repo, source.revision, source.split, folder=folder, limits=limits, deadline=deadline)
    if isinstance(source, UrlSource):
        from gradients.datasets import urls

        private = access.private_addresses
        return urls.fetch(source.url, folder, max_bytes=limits.bytes, allow_private=private, deadline=deadline)
    from gradients.datasets import s3

    return s3.fetch(source.bucket, source.key, folder, max_bytes=limits.bytes, access=access.s3, deadline=deadline)


def read_file(
    path: Path, *, wanted: Collection[str] | None = None, limits: DatasetLimits = DEFAULT_LIMITS
) -> Spool[Row]:
    """All rows of a file or folder of this machine, on the disk; no network is needed. Raises DatasetInvalid with row numbers."""
    try:
        if not path.exists():
            raise DatasetInvalid(f"There is no data set {path}", fix="Check the path")
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        if (size := sum(file.stat().st_size for file in files)) > limits.bytes:
            raise DatasetInvalid(
                f"{path.name} has {size:,} bytes; at most {limits.bytes:,} are read", fix="Give a part of it"
            )
        rows = Spool[Row]()
        for row in _within(rows_in(path, wanted, row_characters=limits.row_characters), path, limits):
            rows.append(row)
    except PermissionError as error:
        raise DatasetInvalid(f"{path} cannot be read: {error.strerror}", fix="Give this user the right to") from error
    if not rows:
        raise DatasetInvalid(f"{path.name} has no rows", fix="Give a data set with at least a few dozen rows")
    return rows


def _within(rows: Iterable[Row], path: Path, limits: DatasetLimits) -> Iterator[Row]:
    """The rows, counted and measured as they come: a small file can hold rows that fill the memory.

    Rows are measured by their text, which is what makes them large.
    """
    size = 0
    huge: list[int] = []
    broken: list[int] = []
    for number, row in enumerate(rows, start=1):
        length = sum(len(str(value)) for value in row.values())
        size += length
        if number > limits.rows or size > limits.bytes:
            most = f"{limits.rows:,} rows or {limits.bytes:,} characters"
            raise DatasetInvalid(f"{path.name} has more than {most}", fix="Give a part of it")
        if length > limits.row_characters:
            huge.append(number)
        elif not is_text(row):
            broken.append(number)
        else:
            yield row
    for numbered, problem, fix in (
        (huge, f"are larger than {limits.row_characters:,} characters", "Split or remove them"),
        (broken, "hold a NUL or half of a character", "Texts may be cut inside an emoji; mend them"),
    ):
        if numbered:
            raise DatasetInvalid(f"Rows {numbers(numbered)} of {path.name} {problem}", rows=numbered, fix=fix)


def is_text(value: object) -> bool:
    """Whether every text in a cell can be written as UTF-8 and holds no NUL."""
    if isinstance(value, str):
        return _NO_TEXT.search(value) is None
    if isinstance(value, Mapping):
        return all(is_text(key) and is_text(inner) for key, inner in value.items())
    return all(map(is_text, value)) if isinstance(value, list) else True
