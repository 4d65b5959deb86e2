"""How rows are read from files of the common formats. No format that can carry code is read.

Whatever cannot be read is one DatasetInvalid that names the row or the line. Rows are given out one by one, so that whoever reads may
stop at the first one too many.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import cast

from gradients.datasets.image_folders import folder_rows, has_images, zip_rows
from gradients.datasets.rows import Row
from gradients.errors import DatasetInvalid

BATCH_ROWS = 256  # of a Parquet file, decompressed at a time


def reader_of(path: Path) -> Callable[[Path], Iterator[Row]]:
    """What reads `path`, by its ending. Raises DatasetInvalid that lists the endings there are."""
    if path.is_dir():
        return folder_rows if has_images(path) else _saved_by_datasets
    if (reader := READERS.get(path.suffix.lower())) is None:
        raise DatasetInvalid(
            f"{path.name} has no ending that says its format",
            fix=f"Use one of {', '.join(READERS)} (unpacked), or a folder saved by `datasets`",
        )
    return reader


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if raw.strip():
                yield _object(path, number, partial(_parse, raw))


def _json_array(path: Path) -> Iterator[Row]:
    try:
        whole = _parse(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DatasetInvalid(f"{path.name} is no valid UTF-8 JSON: {error}", fix="Check how it was written") from error
    rows = whole.get("data") if isinstance(whole, dict) else whole
    if not isinstance(rows, list):
        raise DatasetInvalid(f"{path.name} holds no list of rows", fix='Write [{…}, …] or {"data": [{…}, …]}')
    for number, row in enumerate(rows, start=1):
        yield _object(path, number, partial(_as_it_is, row))


def _csv(path: Path) -> Iterator[Row]:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DatasetInvalid(
            f"Line {line} of {path.name} is not UTF-8", rows=[line], fix="Save the file as UTF-8"
        ) from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        _check_header(path, reader.fieldnames or [])
        for number, row in enumerate(reader, start=1):
            if None in row or None in row.values():
                raise DatasetInvalid(
                    f"Row {number} of {path.name} has another number of columns than the header",
                    rows=[number],
                    fix="Put cells that hold commas or line breaks into double quotes",
                )
            yield cast(Row, row)
    except csv.Error as error:
        raise DatasetInvalid(
            f"{path.name} is no valid CSV from line {reader.line_num + 1} on: {error}",
            fix="Mend the quotes, or use JSON lines",
        ) from error


def _check_header(path: Path, columns: Sequence[str]) -> None:
    """Of two columns with one name, one would be lost."""
    twice = [column for column, count in Counter(columns).items() if count > 1]
    if twice:
        raise DatasetInvalid(f"{path.name} has two columns called '{twice[0]}'", fix="Give each column its own name")


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DatasetInvalid(
            f"{path.name} is no valid Parquet file: {_reason(error)}", fix="Was it copied whole?"
        ) from error


def _saved_by_datasets(folder: Path) -> Iterator[Row]:
    """A folder of `Dataset.save_to_disk`: Arrow streams, read without the library that wrote them."""
    import pyarrow as pa

    files = sorted(folder.glob("data-*.arrow"))
    if not files or not (folder / "state.json").is_file():
        raise DatasetInvalid(f"{folder} was not saved by `datasets`", fix="Name the folder of one split")
    for file in files:
        try:
            with pa.OSFile(str(file)) as source, pa.ipc.open_stream(source) as stream:
                for batch in stream:
                    yield from batch.to_pylist()
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DatasetInvalid(
                f"{file.name} is no valid Arrow stream: {_reason(error)}", fix="Was it copied whole?"
            ) from error


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".json": _json_array,
    ".csv": _csv,
    ".parquet": _parquet,
    ".zip": zip_rows,
}


def _object(path: Path, number: int, parse: Callable[[], object]) -> Row:
    try:
        row = parse()
    except UnicodeDecodeError as error:
        raise DatasetInvalid(
            f"Row {number} of {path.name} is not UTF-8", rows=[number], fix="Save the file as UTF-8"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DatasetInvalid(
            f"Row {number} of {path.name} is no valid JSON: {error}", rows=[number], fix="Write one object per line"
        ) from error
    if not isinstance(row, dict):
        raise DatasetInvalid(
            f"Row {number} of {path.name} is no object", rows=[number], fix='Each row is {"column": value}'
        )
    return cast(Row, row)


def _reason(error: Exception) -> str:
    """What went wrong in one line, as the middle of a sentence."""
    return " ".join(str(error).split()).rstrip(".")


def _parse(raw: bytes) -> object:
    return json.loads(raw.decode("utf-8-sig"), parse_constant=_no_constant)


def _as_it_is(row: object) -> object:
    return row


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")
