"""Where rows come from: files of the common formats, folders saved by `datasets`, and data sets of a hub.

Covers: size, row and encoding limits, one clear error with row numbers for whatever cannot be read. No format that can carry code is
read. Does not cover: what the rows mean (each task type's `clean`).
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from gradients.errors import DatasetInvalid, TaskInvalid
from gradients.tasks.base import Row

SHOWN_ROWS = 5  # row numbers in one message


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a data set may hold."""

    bytes: int = 2 * 1024**3
    rows: int = 1_000_000
    row_bytes: int = 1_000_000


class FileSource(BaseModel):
    """A file, or a folder that `datasets` saved."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["file"] = "file"
    path: Path


class HubSource(BaseModel):
    """A data set of a hub, at a fixed revision."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["hub"] = "hub"
    repo: str = Field(pattern=r"^[\w.-]{1,96}/[\w.-]{1,96}$")
    revision: str = Field(default="main", pattern=r"^[\w./-]{1,96}$")
    split: str = Field(default="train", pattern=r"^[\w.-]{1,64}$")


DatasetSource = Annotated[FileSource | HubSource, Field(discriminator="kind")]
_SOURCE: TypeAdapter[FileSource | HubSource] = TypeAdapter(DatasetSource)
_HUB = re.compile(r"^hub:(?P<repo>[^@#]+)(@(?P<revision>[^#]+))?(#(?P<split>.+))?$")


def parse_source(given: JsonValue) -> FileSource | HubSource:
    """A source from its JSON form, a path, or "hub:org/name@revision#split". Raises TaskInvalid."""
    if isinstance(given, str):
        match = _HUB.match(given)
        parts = {name: value for name, value in match.groupdict().items() if value} if match else {}
        given = cast(JsonValue, {"kind": "hub", **parts} if match else {"kind": "file", "path": given})
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
    reader = _saved_by_datasets if path.is_dir() else _READERS.get(path.suffix.lower())
    if reader is None:
        raise DatasetInvalid(
            f"{path.name} has no ending that says its format",
            fix=f"Use one of {', '.join(_READERS)}, or a saved folder",
        )
    rows: list[Row] = []
    for row in reader(path):
        rows.append(row)
        if len(rows) > limits.rows:
            raise DatasetInvalid(f"{path.name} has more than {limits.rows:,} rows")
    if not rows:
        raise DatasetInvalid(f"{path.name} has no rows", fix="Give a data set with at least a few dozen rows")
    _check_row_sizes(path, rows, limits)
    return rows


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.strip():
                continue
            yield _object(path, number, partial(_parse_line, raw))


def _json_array(path: Path) -> Iterator[Row]:
    try:
        whole = json.loads(path.read_bytes().decode("utf-8-sig"), parse_constant=_no_constant)
    except ValueError as error:
        raise DatasetInvalid(f"{path.name} is no valid UTF-8 JSON: {error}") from error
    rows = whole.get("data") if isinstance(whole, dict) else whole
    if not isinstance(rows, list):
        raise DatasetInvalid(f"{path.name} holds no list of rows", fix='Write [{…}, …] or {"data": [{…}, …]}')
    for number, row in enumerate(rows, start=1):
        yield _object(path, number, partial(_as_it_is, row))


def _csv(path: Path) -> Iterator[Row]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DatasetInvalid(
            f"Line {line} of {path.name} is not UTF-8", rows=[line], fix="Save the file as UTF-8"
        ) from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for number, row in enumerate(reader, start=1):
            if None in row or None in row.values():
                raise DatasetInvalid(f"Row {number} of {path.name} has another number of columns", rows=[number])
            yield cast(Row, row)
    except csv.Error as error:
        raise DatasetInvalid(f"{path.name} is no valid CSV near line {reader.line_num}: {error}") from error


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=1000):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DatasetInvalid(f"{path.name} is no valid Parquet file: {error}") from error


def _saved_by_datasets(folder: Path) -> Iterator[Row]:
    """A folder of `Dataset.save_to_disk`: Arrow streams, read without the library that wrote them."""
    import pyarrow as pa

    files = sorted(folder.glob("data-*.arrow"))
    if not files or not (folder / "state.json").is_file():
        raise DatasetInvalid(f"{folder} was not saved by `datasets`", fix="Name the folder of one split")
    for file in files:
        try:
            with pa.ipc.open_stream(file.read_bytes()) as stream:
                for batch in stream:
                    yield from batch.to_pylist()
        except pa.ArrowException as error:
            raise DatasetInvalid(f"{file.name} is no valid Arrow stream: {error}") from error


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".json": _json_array,
    ".csv": _csv,
    ".parquet": _parquet,
}


def _object(path: Path, number: int, parse: Callable[[], object]) -> Row:
    try:
        row = parse()
    except UnicodeDecodeError as error:
        raise DatasetInvalid(
            f"Row {number} of {path.name} is not UTF-8", rows=[number], fix="Save the file as UTF-8"
        ) from error
    except ValueError as error:
        raise DatasetInvalid(f"Row {number} of {path.name} is no valid JSON: {error}", rows=[number]) from error
    if not isinstance(row, dict):
        raise DatasetInvalid(
            f"Row {number} of {path.name} is no object", rows=[number], fix='Each row is {"column": value}'
        )
    return cast(Row, row)


def _parse_line(raw: bytes) -> object:
    return json.loads(raw.decode("utf-8-sig"), parse_constant=_no_constant)


def _as_it_is(row: object) -> object:
    return row


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")


def _check_size(path: Path, limits: Limits) -> None:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    if size > limits.bytes:
        raise DatasetInvalid(f"{path.name} has {size:,} bytes; at most {limits.bytes:,} are read")


def _check_row_sizes(path: Path, rows: Sequence[Row], limits: Limits) -> None:
    """Rows are measured by their text, which is what makes them large."""
    huge = [n for n, row in enumerate(rows, start=1) if sum(len(str(v)) for v in row.values()) > limits.row_bytes]
    if huge:
        raise DatasetInvalid(
            f"Rows {numbers(huge)} of {path.name} are larger than {limits.row_bytes:,} characters",
            rows=huge,
            fix="Split or remove them",
        )


def numbers(rows: Sequence[int]) -> str:
    """The first few row numbers for a message: "3, 7, 9 and 12 more"."""
    shown = ", ".join(map(str, rows[:SHOWN_ROWS]))
    return f"{shown} and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else shown
