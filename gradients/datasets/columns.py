"""What every task type asks of the columns that a customer maps."""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from pydantic import JsonValue

from gradients.datasets.rows import Row, numbers
from gradients.errors import DatasetInvalid

LONGEST_CELL = 200_000  # characters
LONGEST_FORMAT = 20_000  # characters of what is written into every row
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
MOST_EMPTY_SHARE = 0.8
# role -> what public data sets call such a column, for guesses in messages
USUAL_NAMES: Mapping[str, Sequence[str]] = {
    "instruction": ("question", "prompt", "query", "input", "problem"),
    "output": ("answer", "answers", "response", "completion", "chosen", "solution", "target"),
    "prompt": ("question", "instruction", "query", "input", "problem"),
    "question": ("query", "prompt", "instruction", "input"),
    "answer": ("answers", "output", "response", "completion", "solution"),
    "chosen": ("chosen_response", "preferred", "response_chosen"),
    "rejected": ("rejected_response", "dispreferred", "response_rejected"),
    "conversations": ("messages", "conversations", "conversation", "dialogue", "dialog", "turns"),
    "text": ("context", "passage", "content", "document", "body"),
    "id": ("_id", "passage_id", "docid", "doc_id"),
}


def cell(value: JsonValue) -> str:
    """A cell's text; nothing for an empty cell, which tables of numbers write as NaN. Zero is not nothing."""
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if missing else str(value).strip()


def check_format(text: str, *, must: Collection[str], may: Collection[str] = ()) -> str:
    """A format that customers write, with each placeholder at most once; it is never formatted by Python itself. Raises ValueError."""
    used = Counter(PLACEHOLDER.findall(text))
    if unknown := sorted(used.keys() - {*must, *may}):
        usable = ", ".join(f"{{{name}}}" for name in (*must, *may))
        raise ValueError(f"there is no {{{unknown[0]}}}; it may hold {usable}")
    if missing := sorted({*must} - used.keys()):
        raise ValueError(f"it must contain {{{missing[0]}}}")
    if twice := sorted(name for name, count in used.items() if count > 1):
        raise ValueError(f"it may contain {{{twice[0]}}} once only")
    return text


def filled(template: str, values: Mapping[str, str]) -> str:
    """A format that was checked, with its placeholders replaced; what there is no value for is left out."""
    return PLACEHOLDER.sub(lambda match: values.get(match.group(1), ""), template)


def check_columns(
    rows: Sequence[Row], wanted: Mapping[str, str] | Iterable[str], *, parameter: str = "columns"
) -> None:
    """A column that stands in no row is a mistake in the mapping, which is a parameter. Raises DatasetInvalid (column_missing).

    Args:
        wanted: role -> column, or columns alone.
    """
    there = sorted({str(column) for row in rows for column in row})
    named = wanted.items() if isinstance(wanted, Mapping) else (("<role>", column) for column in wanted)
    for role, column in named:
        if column not in there:
            usual = (name for name in USUAL_NAMES.get(role, ()) if name in there)
            near = next(iter((*difflib.get_close_matches(column, there, n=1), *usual)), None)
            guess = f"Did you mean '{near}'? " if near else ""
            talks = next((name for name in USUAL_NAMES["conversations"] if name in there), None)
            hint = "" if near or not talks else f" ('{talks}' holds conversations, which have a task type of their own)"
            raise DatasetInvalid(
                f"The data set has no column '{column}'",
                code="column_missing",
                fix=f"{guess}It has: {', '.join(there)}{hint}; map them with --set {parameter}.{role}={near or '<column>'}",
            )


def check_cells(rows: Sequence[Row], columns: Iterable[str]) -> None:
    """Columns of text hold text or numbers, of a length that somebody could have written. Raises DatasetInvalid with row numbers."""
    wrong: dict[str, list[int]] = {column: [] for column in columns}
    huge: dict[str, list[int]] = {column: [] for column in wrong}
    for number, row in enumerate(rows, start=1):
        for column in wrong:
            value = row.get(column)
            if not isinstance(value, str | int | float | None):
                wrong[column].append(number)
            elif len(cell(value)) > LONGEST_CELL:
                huge[column].append(number)
    for column in wrong:
        if wrong[column]:
            raise DatasetInvalid(
                f"Column '{column}' is not text in rows {numbers(wrong[column])}",
                rows=wrong[column],
                code="wrong_type",
                fix="Write text or numbers there, or map another column",
            )
        if huge[column]:
            raise DatasetInvalid(
                f"Column '{column}' has more than {LONGEST_CELL:,} characters in rows {numbers(huge[column])}",
                rows=huge[column],
                fix="Split or remove them",
            )


def check_enough(kept: Iterable[int], rows: int, *, missing: str) -> None:
    """Raises DatasetInvalid when most rows had to be left out: then the mapping is wrong, not the rows.

    Args:
        kept: numbers of the rows that were not left out.
        rows: how many there were.
        missing: what the others lack.
    """
    left_out = sorted(set(range(1, rows + 1)).difference(kept))
    if len(left_out) > MOST_EMPTY_SHARE * rows:
        raise DatasetInvalid(
            f"{len(left_out)} of {rows} rows have {missing}: {numbers(left_out)}",
            rows=left_out,
            fix="Check the column mapping",
        )
