"""Where rows come from: files of the common formats, folders saved by `datasets`, data sets of a hub, URLs, and objects of an S3 store.

Covers: size, row and encoding limits, one clear error with row numbers for whatever cannot be used. Does not cover: how files are read
(formats.py), how they are fetched (hub.py, urls.py, s3.py), and what the rows mean (each task type's `clean`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from gradients.errors import DatasetInvalid, TaskInvalid
from gradients.tasks.access import OUTSIDERS, Access
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


class UrlSource(BaseModel):
    """A file that anybody with its URL can have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["url"] = "url"
    url: str = Field(pattern=r"^https?://[^\s@/?#]+([/?#]\S*)?$", max_length=4096)  # never with a password


class S3Source(BaseModel):
    """An object of an S3 store."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["s3"] = "s3"
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    key: str = Field(pattern=r"^[^\x00-\x1f]+$", max_length=1024)


_FORMS = "Give a file, hub:org/name@revision#split, an https:// URL, or s3://bucket/key"
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
_HUB = re.compile(r"^hub:(?P<repo>[^@#]+)(@(?P<revision>[^#]+))?(#(?P<split>.+))?$")
_S3 = re.compile(r"^s3://(?P<bucket>[^/]+)/(?P<key>.+)$")


def _in_full(given: object) -> object:
    """The JSON form of a source that is given as text; what the text should have and has not is left out."""
    if not isinstance(given, str):
        return given
    if given.startswith(("http://", "https://")):
        return {"kind": "url", "url": given}
    scheme, colon, _ = given.partition(":")
    if not colon or scheme not in ("hub", "s3"):
        return {"kind": "file", "path": given}
    match = (_HUB if scheme == "hub" else _S3).match(given)
    parts = match.groupdict() if match else {}
    return {"kind": scheme, **{name: value for name, value in parts.items() if value}}


Source = FileSource | HubSource | UrlSource | S3Source
# In its JSON form, or as text: a path, "hub:org/name@revision#split", a URL, "s3://bucket/key".
DatasetSource = Annotated[Source, Field(discriminator="kind"), BeforeValidator(_in_full)]
_SOURCE: TypeAdapter[Source] = TypeAdapter(DatasetSource)


def parse_source(given: JsonValue) -> Source:
    """A source from its JSON form or from a text. Raises TaskInvalid."""
    try:
        return _SOURCE.validate_python(given)
    except ValidationError as error:
        raise TaskInvalid(f"dataset: {error.errors()[0]['msg']}", fix=_FORMS) from error


def read_rows(source: Source, *, limits: Limits = Limits(), access: Access = OUTSIDERS) -> list[Row]:
    """All rows in their own order. Raises DatasetInvalid with row numbers, and OutsideError when a server does not answer."""
    if isinstance(source, HubSource):
        from gradients.tasks import hub

        return hub.fetch_rows(source.repo, source.revision, source.split, limits=limits)
    if isinstance(source, UrlSource):
        from gradients.tasks import urls

        return urls.fetch_rows(source.url, limits=limits, access=access)
    if isinstance(source, S3Source):
        from gradients.tasks import s3

        return s3.fetch_rows(source.bucket, source.key, limits=limits, access=access)
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
        elif not is_text(row):
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


def is_text(value: object) -> bool:
    """Whether every text in a cell can be written as UTF-8 and holds no NUL."""
    if isinstance(value, str):
        return _NO_TEXT.search(value) is None
    if isinstance(value, Mapping):
        return all(is_text(key) and is_text(inner) for key, inner in value.items())
    return all(map(is_text, value)) if isinstance(value, list) else True


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
