"""How rows are read from files of the common formats. No format that can carry code is read.

Whatever cannot be read is one DatasetInvalid that names the row, and the line in formats of lines. Rows are counted as they are given out,
from 1 on and without blank lines, here as everywhere; and they are given out one by one, so that whoever reads may stop.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from gradients.datasets.image_folders import folder_rows, has_images, zip_rows
from gradients.datasets.json_rows import row_object, rows_of_lines
from gradients.datasets.rows import Row
from gradients.errors import DatasetInvalid
from gradients.files.strict_json import strict_json

BATCH_ROWS = 256  # of a Parquet file, decompressed at a time
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # as "surrogateescape" marks bytes


def reader_of(path: Path) -> Callable[[Path], Iterator[Row]]:
    """What reads `path`, by its ending. Raises DatasetInvalid that lists the endings there are."""
    if path.is_dir():
        return folder_rows if has_images(path) else _saved_by_datasets
    if (reader := READERS.get(path.suffix.lower())) is None:
        raise DatasetInvalid(
            f"{path.name} has no ending that says its format",
            fix=f"Use one of {', '.join(ENDINGS)} (unpacked), or a folder saved by `datasets`",
        )
    return reader


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        yield from rows_of_lines(file, path.name)


def _json_array(path: Path) -> Iterator[Row]:
    try:
        whole = strict_json(path.read_bytes().decode("utf-8-sig"))
    except ValueError as error:
        raise DatasetInvalid(f"{path.name} is not valid UTF-8 JSON: {error}", fix="Check how it was written") from error
    rows = whole.get("data") if isinstance(whole, dict) else whole
    if not isinstance(rows, list):
        raise DatasetInvalid(f"{path.name} does not hold a list of rows", fix='Write [{…}, …] or {"data": [{…}, …]}')
    for number, row in enumerate(rows, start=1):
        yield row_object(row, number, f"Row {number} of {path.name}")


def _csv(path: Path) -> Iterator[Row]:
    content = path.read_bytes()
    try:
        text, is_utf8 = content.decode("utf-8-sig"), True
    except UnicodeDecodeError:  # which row it is comes out as they are counted
        text, is_utf8 = content.decode("utf-8-sig", errors="surrogateescape"), False
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    number = 0
    try:
        columns = reader.fieldnames or []
        if not is_utf8 and any(map(_NOT_UTF8.search, columns)):
            raise DatasetInvalid(f"The header of {path.name} is not UTF-8", fix="Save the file as UTF-8")
        _check_columns(columns, path)
        for number, row in enumerate(reader, start=1):
            if None in row or None in row.values():
                raise DatasetInvalid(
                    f"Row {number} of {path.name} (line {reader.reader.line_num}) has another number of columns than the header",
                    rows=[number],
                    fix="Put cells that hold commas or line breaks into double quotes",
                )
            if not is_utf8 and any(map(_NOT_UTF8.search, row.values())):
                raise DatasetInvalid(
                    f"Row {number} of {path.name} (line {reader.reader.line_num}) is not UTF-8",
                    rows=[number],
                    fix="Save the file as UTF-8",
                )
            yield cast(Row, row)
    except csv.Error as error:
        where = f"Row {number + 1} of {path.name}" if reader.line_num else f"The header of {path.name}"
        raise DatasetInvalid(
            f"{where} (from line {reader.line_num + 1} on) is not valid CSV: {error}",
            rows=[number + 1] if reader.line_num else [],
            fix="Mend the quotes, or use JSON lines",
        ) from error


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow.parquet as pq

    with _blaming(path, "Parquet file"), pq.ParquetFile(path) as file:
        _check_columns(file.schema_arrow.names, path)
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            yield from batch.to_pylist()


def _saved_by_datasets(folder: Path) -> Iterator[Row]:
    """A folder of `Dataset.save_to_disk`: Arrow streams, read without the library that wrote them."""
    import pyarrow as pa

    files = sorted(folder.glob("data-*.arrow"))
    if not files or not (folder / "state.json").is_file():
        raise DatasetInvalid(f"{folder} was not saved by `datasets`", fix="Name the folder of one split")
    for file in files:
        with _blaming(file, "Arrow stream"), pa.OSFile(str(file)) as source, pa.ipc.open_stream(source) as stream:
            _check_columns(stream.schema.names, file)
            for batch in stream:
                yield from batch.to_pylist()


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".json": _json_array,
    ".csv": _csv,
    ".parquet": _parquet,
    ".zip": zip_rows,
}
ENDINGS = tuple(READERS)  # of files that can be read, in lower case


def _check_columns(columns: Sequence[str], path: Path) -> None:
    """Of two columns with one name, one would be lost."""
    if twice := [column for column, count in Counter(columns).items() if count > 1]:
        raise DatasetInvalid(f"{path.name} has two columns called '{twice[0]}'", fix="Give each column its own name")


@contextmanager
def _blaming(path: Path, what: str) -> Iterator[None]:
    """What a broken file raises is the customer's; what a disk raises is not."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(str(error).split()).rstrip(".")
        raise DatasetInvalid(f"{path.name} is not a valid {what}: {reason}", fix="Was it copied whole?") from error
