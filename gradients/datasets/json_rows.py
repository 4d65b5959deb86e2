"""Rows written as JSON, read so that they mean one thing: UTF-8, no key twice, no NaN."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

from gradients.datasets.rows import Row
from gradients.errors import DatasetInvalid
from gradients.files.strict_json import strict_json


def rows_of_lines(lines: Iterable[bytes], name: str) -> Iterator[Row]:
    """One object per line of the file `name`; a line with nothing in it is not a row. Raises DatasetInvalid with row and line."""
    number = 0
    for line, raw in enumerate(lines, start=1):
        if not raw.strip():
            continue
        number += 1
        where = f"Row {number} of {name} (line {line})"
        try:
            row = strict_json(raw.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise DatasetInvalid(f"{where} is not UTF-8", rows=[number], fix="Save the file as UTF-8") from error
        except ValueError as error:
            problem = f"{where} is not valid JSON: {error}"
            raise DatasetInvalid(problem, rows=[number], fix="Write one object per line") from error
        yield row_object(row, number, where)


def row_object(value: object, number: int, where: str) -> Row:
    """A JSON value as a row. Raises DatasetInvalid when it is not an object."""
    if not isinstance(value, dict):
        raise DatasetInvalid(f"{where} is not an object", rows=[number], fix='Each row is {"column": value}')
    return cast(Row, value)
