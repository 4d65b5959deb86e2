"""Texts that data sets write as something else: content in parts, as chat APIs do, and lists of right answers, as SQuAD does."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import cast

from pydantic import JsonValue

from gradients.datasets.rows import Row, numbers
from gradients.datasets.spool import Made
from gradients.errors import DatasetInvalid

_TEXT_PARTS = (None, "text", "input_text", "output_text")


class NotText(ValueError):
    """A value with a part that is not text; says which."""


def as_text(value: JsonValue) -> JsonValue:
    """The text of a list of parts, or the first of SQuAD's right answers; any other value as it is, text or not.

    Raises NotText for a list with a part that is not text, such as an image.
    """
    if isinstance(value, dict) and isinstance(value.get("text"), list):  # {"text": ["…", …], "answer_start": […]}
        texts = cast(list[JsonValue], value["text"])
        return texts[0] if texts else None
    if isinstance(value, dict) and value.keys() <= {"type", "text"}:
        value = [value]
    if not isinstance(value, list) or not all(isinstance(part, dict) and "type" in part for part in value):
        return value
    return "".join(_part(cast(dict[str, JsonValue], part)) for part in value)


def with_texts(rows: Sequence[Row], columns: Collection[str]) -> Sequence[Row]:
    """The rows with their texts in these columns as plain text. Raises DatasetInvalid with the rows that hold more than text."""

    def read(row: Row) -> Row:
        texts = {column: as_text(row[column]) for column in columns if isinstance(row.get(column), list | dict)}
        return {**row, **texts} if texts else row

    wrong, are_there = dict[int, str](), False
    for number, row in enumerate(rows, start=1):
        try:
            are_there = read(row) is not row or are_there
        except NotText as error:
            wrong[number] = str(error)
    if wrong:
        raise DatasetInvalid(
            f"Rows {numbers(list(wrong))} hold {next(iter(wrong.values()))}",
            rows=list(wrong),
            code="part_not_text",
            fix="Write text alone",
        )
    return Made(rows, read) if are_there else rows


def _part(part: dict[str, JsonValue]) -> str:
    text = part.get("text")
    if part.get("type") not in _TEXT_PARTS or not isinstance(text, str):
        raise NotText(f"a part of type '{str(part.get('type'))[:40]}', which is not text")
    return text
