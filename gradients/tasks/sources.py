"""Where rows come from: files of the common formats, folders saved by `datasets`, and data sets of a hub.

Covers: size, row and encoding limits, one clear error with row numbers for whatever cannot be used. Does not cover: how files are read
(formats.py), and what the rows mean (each task type's `clean`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from gradients.errors import DatasetInvalid, TaskInvalid
from gradients.tasks.base import Row
from gradients.tasks.formats import reader_of

SHOWN_ROWS = 5  # row numbers in one message


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a data set may hold."""

    bytes: int = 2 * 1024**3  # of the files, and characters of what they hold
    rows: int = 1_000_000
    row_bytes: int = 1_000_000  # characters of one row


class FileSource(BaseModel):
    """A file, or a folder that `datasets` saved."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["file"] = "file"
    path: Path


class HubSource(BaseModel):
    """A data set of a hub, at a fixed revision."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["hub"] = "hub"
    repo: str = Field(pattern=r"^\w[\w.-]{0,95}/\w[\w.-]{0,95}$")  # never ".", which would be a folder of this machine
    revision: str = Field(default="main", pattern=r"^\w[\w./-]{0,95}$")
    split: str = Field(default="train", pattern=r"^\w[\w.-]{0,63}$")


DatasetSource = Annotated[FileSource | HubSource, Field(discriminator="kind")]
_SOURCE: TypeAdapter[FileSource | HubSource] = TypeAdapter(DatasetSource)
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
_HUB = re.compile(r"^hub:(?P<repo>[^@#]+)(@(?P<revision>[^#]+))?(#(?P<split>.+))?$")


def parse_source(given: JsonValue) -> FileSource | HubSource:
    """A source from its JSON form, a path, or "hub:org/name@revision#split". Raises TaskInvalid."""
    if isinstance(given, str):
        match = _HUB.match(given)
        parts = {name: value for name, value in match.groupdict().items() if value} if match else {}
        hub = given.startswith("hub:")
        given = cast(JsonValue, {"kind": "hub", **parts} if hub else {"kind": "file", "path": given})
    try:
        return _SOURCE.validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise TaskInvalid(f"dataset: {first['msg']}", fix="Give a file, or hub:org/name@revision#split") from error


def read_rows(source: FileSource | HubSource, *, limits: Limits = Limits()) -> list[Row]:
    """All rows in their own order. Raises DatasetInvalid with row numbers, and OutsideError when a hub does not answer."""
    if isinstance(source, HubSource):
        from gradients.tasks.hub import fetch_rows

        return fetch_rows(source.repo, source.revision, source.split, limits=limits)
    return _read_file(source.path, limits)


def _read_file(path: Path, limits: Limits) -> list[Row]:
    if not path.exists():
        raise DatasetInvalid(f"There is no data set {path}", fix="Check the path")
    _check_size(path, limits)
    rows = list(_within(reader_of(path)(path), path, limits))
    if not rows:
        raise DatasetInvalid(f"{path.name} has no rows", fix="Give a data set with at least a few dozen rows")
    return rows


def _within(rows: Iterable[Row], path: Path, limits: Limits) -> Iterator[Row]:
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
        if length > limits.row_bytes:
            huge.append(number)
        elif not _is_text(row):
            broken.append(number)
        else:
            yield row
    _refuse(huge, f"of {path.name} are larger than {limits.row_bytes:,} characters", fix="Split or remove them")
    _refuse(
        broken, f"of {path.name} hold a NUL or half of a character", fix="Texts may be cut inside an emoji; mend them"
    )


def _refuse(rows: Sequence[int], what: str, *, fix: str) -> None:
    if rows:
        raise DatasetInvalid(f"Rows {numbers(rows)} {what}", rows=rows, fix=fix)


def _is_text(value: object) -> bool:
    """Whether every text in a cell can be written as UTF-8 and holds no NUL."""
    if isinstance(value, str):
        return _NO_TEXT.search(value) is None
    if isinstance(value, Mapping):
        return all(_is_text(key) and _is_text(inner) for key, inner in value.items())
    return all(map(_is_text, value)) if isinstance(value, list) else True


def _check_size(path: Path, limits: Limits) -> None:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    if size > limits.bytes:
        raise DatasetInvalid(
            f"{path.name} has {size:,} bytes; at most {limits.bytes:,} are read", fix="Give a part of it"
        )


def numbers(rows: Sequence[int]) -> str:
    """The first few row numbers for a message: "3, 7, 9 and 12 more"."""
    shown = ", ".join(map(str, rows[:SHOWN_ROWS]))
    return f"{shown} and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else shown
