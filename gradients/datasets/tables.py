"""Rows of text tables: commas, or the semicolons and tabs that spreadsheets write where a comma is a decimal point."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from gradients.datasets.rows import Row
from gradients.errors import DatasetInvalid

SEPARATORS = (",", ";", "\t", "|")
_BOMS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # as spreadsheets save "Unicode text"
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # as "surrogateescape" marks bytes
_UTF8 = "Save the file as UTF-8"


def table_rows(path: Path, wanted: Collection[str] | None, *, most: int) -> Iterator[Row]:
    """The rows of a table; cells of columns that are not wanted are empty. Raises DatasetInvalid with row and line.

    Args:
        wanted: names among which those of the columns are that the task reads; None: all.
        most: characters of a line.
    """
    with path.open("rb") as file:
        encoding = _BOMS.get(file.read(2), "utf-8-sig")
    errors = "strict" if encoding == "utf-16" else "surrogateescape"  # which row it is comes out as they are counted
    with path.open(encoding=encoding, errors=errors, newline="") as text:
        lines = _lines(text, path.name, most)
        try:
            yield from _rows(lines, path.name, wanted)
        except UnicodeDecodeError as error:
            raise DatasetInvalid(f"{path.name} is not UTF-16, as it says of itself", fix=_UTF8) from error


def rows_of_table(content: bytes, name: str) -> Iterator[Row]:
    """The rows of a small table that is in memory already. Raises as `table_rows` does."""
    text = io.StringIO(content.decode("utf-8-sig", errors="surrogateescape"), newline="")
    return _rows(text, name, None)


def read_columns(names: Sequence[str], wanted: Collection[str] | None) -> list[str]:
    """Those of the columns that are converted: the wanted ones, or all where none of them is there, which has to be told."""
    return [name for name in names if wanted is None or name in wanted] or list(names)


def check_columns_differ(columns: Sequence[str], name: str) -> None:
    """Of two columns with one name, one would be lost. Raises DatasetInvalid."""
    if twice := [column for column, count in Counter(columns).items() if count > 1]:
        raise DatasetInvalid(f"{name} has two columns called '{twice[0]}'", fix="Give each column its own name")


def _lines(text: TextIO, name: str, most: int) -> Iterator[str]:
    """Lines, none of which is read beyond what a row may have."""
    number = 0
    while line := text.readline(most + 1):
        number += 1
        if len(line) > most:
            raise DatasetInvalid(f"Line {number} of {name} has more than {most:,} characters", fix="Split or remove it")
        yield line


def _rows(lines: Iterator[str], name: str, wanted: Collection[str] | None) -> Iterator[Row]:
    first = next(lines, "")
    reader = csv.reader(_again(first, lines), delimiter=_separator(first, wanted), strict=True)
    number = line = 0  # both of what was read as a whole
    try:
        columns = next(reader, [])
        line = reader.line_num
        if _NOT_UTF8.search("".join(columns)):
            raise DatasetInvalid(f"The header of {name} is not UTF-8", fix=_UTF8)
        named = [column for column in columns if column]
        check_columns_differ(named, name)
        used = set(read_columns(named, wanted))
        for cells in reader:
            if not cells:  # a blank line
                continue
            number, line = number + 1, reader.line_num
            where = f"Row {number} of {name} (line {line})"
            if len(cells) != len(columns):
                raise DatasetInvalid(
                    f"{where} has another number of columns than the header",
                    rows=[number],
                    fix="Put cells that hold commas or line breaks into double quotes",
                )
            if _NOT_UTF8.search("".join(cells)):
                raise DatasetInvalid(f"{where} is not UTF-8", rows=[number], fix=_UTF8)
            pairs = list(zip(columns, cells, strict=True))
            if any(cell and not column for column, cell in pairs):
                raise DatasetInvalid(f"{where} has a cell in a column without a name", rows=[number], fix="Name it")
            yield {column: cell if column in used else "" for column, cell in pairs if column}
    except csv.Error as error:
        where = f"Row {number + 1} of {name}" if line else f"The header of {name}"
        raise DatasetInvalid(
            f"{where} (from line {line + 1} on) is not valid CSV: {error}",
            rows=[number + 1] if line else [],
            fix="Mend the quotes, or use JSON lines",
        ) from error


def _again(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


def _separator(header: str, wanted: Collection[str] | None) -> str:
    """The sign that parts the header into most of the wanted columns; of equals into most columns, and the comma before others."""

    def found(sign: str) -> tuple[int, int]:
        try:
            columns = next(csv.reader([header], delimiter=sign), [])
        except csv.Error:
            columns = []
        return len({*columns} & {*(wanted or ())}), len(columns)

    return max(SEPARATORS, key=found)
