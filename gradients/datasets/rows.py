"""What a row is, and how messages name rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from gradients.datasets.spool import Spool

SHOWN_ROWS = 5  # row numbers in one message

Row = Mapping[str, JsonValue]  # one row as its source gave it, or in the type's normal form
ReadSource = Callable[
    [JsonValue], Sequence[Row]
]  # the rows of a source in its JSON form, within the limits of the task


@dataclass(frozen=True, slots=True)
class Numbered:
    """A row in the type's normal form and where it stood in the source, so that people find it again."""

    number: int  # 1-based
    row: Row


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Rows that are fit for the task, and how many were left out for which reason."""

    rows: Sequence[Numbered]
    removed: Mapping[str, int]


def numbered_rows() -> Spool[Numbered]:
    """An empty sequence of rows in the type's normal form, on the disk."""
    return Spool(to_json=lambda kept: [kept.number, kept.row], of_json=lambda read: Numbered(*read))


@dataclass(frozen=True, slots=True)
class SplitSizes:
    """How many rows a type needs, and how many of them are held out."""

    fewest_rows: int = 64
    fewest_train: int = 32
    fewest_held_out: int = 16
    most_held_out: int = 400
    held_out_share: float = 0.1

    def held_out(self, rows: int) -> int:
        """How many of so many usable rows are held out."""
        return min(self.most_held_out, max(self.fewest_held_out, round(rows * self.held_out_share)))


def numbers(rows: Sequence[int]) -> str:
    """The first few row numbers for a message: "3, 7, 9 and 12 more"."""
    shown = ", ".join(map(str, rows[:SHOWN_ROWS]))
    return f"{shown} and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else shown
