"""Several data sets as one: which rows of each are taken, under which names of columns, and what became of them.

Covers: the same sources give the same rows on every machine; a data set of which no row can be used is refused, with its number in what
is said; what repeats a row of an earlier data set is counted. Does not cover: which rows repeat one another within a data set (splits.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

from gradients.datasets.normal_texts import plain
from gradients.datasets.rows import Cleaned, Numbered, Row
from gradients.datasets.sources import DatasetLimits, MergedSource, Part, Source, name_of
from gradients.datasets.splits import Split
from gradients.datasets.spool import Made, OnDisk, Picked, Spool
from gradients.domain.task import SourceCount
from gradients.errors import DatasetInvalid

Value = TypeVar("Value")
Read = Callable[[Source, DatasetLimits], Spool[Row]]


class Joined(OnDisk[Value]):
    """Sequences one behind the other."""

    def __init__(self, parts: Sequence[Sequence[Value]]) -> None:
        self._parts = parts
        self.ends = tuple(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __iter__(self) -> Iterator[Value]:
        for part in self._parts:
            yield from part

    def _at(self, position: int) -> Value:
        part = bisect_right(self.ends, position)
        return self._parts[part][position - (self.ends[part - 1] if part else 0)]


@dataclass(frozen=True, slots=True)
class Merged:
    """Rows of several data sets, with their columns under common names. A row's number is its place among all of them."""

    rows: Joined[Row]
    parts: Sequence[Sequence[Row]]
    read: tuple[int, ...]  # rows of each data set, taken or not

    def part_of(self, number: int) -> int:
        """From which data set the row with this number comes, from 0."""
        return bisect_right(self.rows.ends, number - 1)


def merge(merged: MergedSource, read: Read, limits: DatasetLimits) -> Merged:
    """The rows that the parts ask for, data set after data set. Raises DatasetInvalid, also for more than the limits."""
    whole, left = list[Spool[Row]](), limits
    for place, part in enumerate(merged.sources):
        with naming(place, part):
            rows = read(part.dataset, left)
            _check_mapping(rows, part.columns)
        whole.append(rows)
        left = dataclasses.replace(left, rows=left.rows - len(rows), bytes=max(left.bytes - rows.size_bytes, 0))
    taken = shares(merged.sources, [len(rows) for rows in whole])
    parts = [
        Made(Picked(rows, chosen(len(rows), count, part=place)), _renamed(part.columns))
        for place, (rows, count, part) in enumerate(zip(whole, taken, merged.sources, strict=True))
    ]
    return Merged(Joined(parts), parts, tuple(map(len, whole)))


def shares(parts: Sequence[Part], rows: Sequence[int]) -> list[int]:
    """How many rows of each data set are taken: what its limit allows; with weights, as many as keep their proportion, and one at least."""
    allowed = [min(count, part.limit or count) for part, count in zip(parts, rows, strict=True)]
    weights = [part.weight for part in parts if part.weight is not None]
    if not weights:
        return allowed
    unit = min(count / weight for count, weight in zip(allowed, weights, strict=True))
    return [max(min(count, round(unit * weight)), 1) for count, weight in zip(allowed, weights, strict=True)]


def chosen(rows: int, count: int, *, part: int) -> list[int]:
    """Positions of so many rows, in order: the same on every machine, and spread over the data set as if by lot."""
    if count >= rows:
        return list(range(rows))
    lots = {position: hashlib.sha256(f"{part}/{position}".encode()).digest() for position in range(rows)}
    return sorted(sorted(lots, key=lots.__getitem__)[:count])


def clean_each(merged: Merged, sources: Sequence[Part], clean: Callable[[Sequence[Row]], Cleaned]) -> Cleaned:
    """Each data set in the type's normal form, in its own way: conventions of one are not asked of another. Raises DatasetInvalid."""
    cleaned, removed = list[Sequence[Numbered]](), Counter[str]()
    for place, (rows, part) in enumerate(zip(merged.parts, sources, strict=True)):
        before = merged.rows.ends[place] - len(rows)
        with naming(place, part):
            made = clean(rows)
            if not made.rows:
                raise DatasetInvalid(
                    f"None of its {len(rows)} rows can be used", fix="Map its columns, or leave it out"
                )
        cleaned.append(Made(made.rows, _moved(before)))
        removed.update(made.removed)
    return Cleaned(Joined(cleaned), removed)


def counts(
    merged: Merged, rows: Sequence[Numbered], text: Callable[[Row], str], split: Split | None
) -> tuple[SourceCount, ...]:
    """What became of each data set.

    Args:
        rows: all that can be used, in order.
        text: what rows are compared by.
        split: what was made of them; None where nothing was.
    """
    first, usable, repeated = dict[bytes, int](), Counter[int](), Counter[int]()
    for row in rows:
        part = merged.part_of(row.number)
        usable[part] += 1
        said = hashlib.sha256(plain(text(row.row)).encode()).digest()
        repeated[part] += first.setdefault(said, part) != part
    sides = (
        [Counter(merged.part_of(row.number) for row in side) for side in (split.train, split.held_out)]
        if split
        else None
    )
    return tuple(
        SourceCount(
            rows=merged.read[part],
            taken=len(merged.parts[part]),
            usable=usable[part],
            repeated=repeated[part],
            train_rows=sides[0][part] if sides else None,
            held_out_rows=sides[1][part] if sides else None,
        )
        for part in range(len(merged.parts))
    )


@contextlib.contextmanager
def naming(place: int, part: Part) -> Iterator[None]:
    """What is wrong with a data set is said with its number and name."""
    try:
        yield
    except DatasetInvalid as error:
        said = f"Data set {place + 1} ({name_of(part.dataset)}): {error.message}"
        raise DatasetInvalid(said, rows=error.rows, code=error.code, fix=error.fix) from error


def _check_mapping(rows: Sequence[Row], columns: Mapping[str, str]) -> None:
    there = {str(column) for row in rows for column in row} if columns else set()
    if missing := [theirs for theirs in columns.values() if theirs not in there]:
        raise DatasetInvalid(
            f"It has no column '{missing[0]}', which its own `columns` name",
            code="column_missing",
            fix=f"It has: {', '.join(sorted(there))}",
        )


def _renamed(columns: Mapping[str, str]) -> Callable[[Row], Row]:
    """A row with its columns under the names that the task's parameters use; a column that had such a name itself gives way."""

    def renamed(row: Row) -> Row:
        kept = {name: value for name, value in row.items() if name not in columns}
        return {**kept, **{ours: row[theirs] for ours, theirs in columns.items() if theirs in row}}

    return renamed if columns else lambda row: row


def _moved(by: int) -> Callable[[Numbered], Numbered]:
    return lambda row: Numbered(row.number + by, row.row)
