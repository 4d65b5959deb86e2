"""Which rows are held out: drawn by a secret salt, so that nobody with the public data can rebuild the choice.

Covers: the same row, exactly or nearly, never stands on both sides, nor do rows that their type says belong together. Does not cover:
rows that a miner knows from elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from gradients.datasets.near_duplicates import near_duplicate_groups, normalised, overlapping, plain
from gradients.datasets.rows import Numbered, Row, SplitSizes
from gradients.errors import DatasetInvalid


class Split(NamedTuple):
    """Both sides, each in the order of the source, and what was removed for the sake of the other."""

    train: tuple[Numbered, ...]
    held_out: tuple[Numbered, ...]
    removed: dict[str, int]


def split(
    rows: Sequence[Numbered],
    *,
    text: Callable[[Row], str],
    salt: bytes,
    group: Callable[[Row], str] | None = None,
    sizes: SplitSizes = SplitSizes(),  # noqa: B008 (frozen)
    left_out: Mapping[str, int] = MappingProxyType({}),
) -> Split:
    """Remove repeated rows, hold out a tenth (16 to 400 rows, or the type's own sizes), and clear the train side of what overlaps.

    Which rows are held out depends on their text and the salt only, not on their order. Raises DatasetInvalid with too few
    usable rows (by default 64), or too few that may be trained on (32).

    Args:
        text: what rows are compared by.
        group: rows for which it says the same stand on one side; near-duplicates among them stay.
        left_out: how many rows of the source are not among `rows`, by reason; said where too few are left.
    """
    whole = [plain(text(row.row)) for row in rows]
    exact = sorted({one: i for i, one in reversed(list(enumerate(whole)))}.values())  # the first of equal ones
    texts = {i: normalised(whole[i]) for i in exact}
    named = {i: normalised(group(rows[i].row)) if group else whole[i] for i in exact}
    # A group of more rows than are held out, such as one prompt for all of them, does not count as one.
    rows_of, most = Counter(named.values()), sizes.held_out(len(named))
    groups = {i: name if rows_of[name] <= most else whole[i] for i, name in named.items()}
    distinct = _one_group_of_each(texts, groups, whole)
    removed = {"repeated": len(rows) - len(exact), "nearly repeated": len(exact) - len(distinct)}
    check_distinct(len(distinct), sizes, removed={**left_out, **removed})
    size = sizes.held_out(len(distinct))
    held_out, beside = _drawn({i: groups[i] for i in distinct}, whole, size=size, salt=salt)
    away = {*held_out, *beside}
    rest = [i for i in distinct if i not in away]
    leaking = overlapping([texts[i] for i in rest], [texts[i] for i in held_out])
    train = [i for position, i in enumerate(rest) if position not in leaking]
    if len(train) < sizes.fewest_train:
        shared = f"{len(leaking)} of {len(rest)} rows share long passages with the {size} held-out ones"
        raise _too_few(
            f"{shared}; {len(train)} are left to train on", fix="Give rows that differ more, or more of them"
        )
    removed |= {"belong with held-out rows": len(beside), "overlap with held-out rows": len(leaking)}
    return Split(tuple(rows[i] for i in train), tuple(rows[i] for i in held_out), removed)


def check_distinct(distinct: int, sizes: SplitSizes, *, removed: Mapping[str, int]) -> None:
    """Raises DatasetInvalid when so many distinct rows are too few for a task; says why the others were left out."""
    if distinct >= sizes.fewest_rows:
        return
    rows = distinct + sum(removed.values())
    reasons = ", ".join(f"{count} were left out as {reason}" for reason, count in removed.items() if count)
    found = f"Of {rows} rows {reasons}; {distinct} are left" if reasons else f"There are {distinct} rows"
    raise _too_few(f"{found}, and at least {sizes.fewest_rows} are needed", fix="Give a larger data set")


def _too_few(problem: str, *, fix: str) -> DatasetInvalid:
    return DatasetInvalid(problem, code="too_few_rows", fix=fix)


def _one_group_of_each(texts: Mapping[int, str], groups: Mapping[int, str], whole: Sequence[str]) -> list[int]:
    """Positions less what is nearly the same as a row of another group, in order.

    The row with the smallest digest stays, so that order plays no part, and with it what its own group has beside it in other words.
    """
    positions = list(texts)
    kept: list[int] = []
    for near in near_duplicate_groups(list(texts.values())):
        alike = sorted((positions[place] for place in near), key=lambda i: hashlib.sha256(whole[i].encode()).digest())
        first_of = {texts[i]: i for i in reversed(alike) if groups[i] == groups[alike[0]]}
        kept += first_of.values()
    return sorted(kept)


def _drawn(groups: Mapping[int, str], whole: Sequence[str], *, size: int, salt: bytes) -> tuple[list[int], list[int]]:
    """Positions of so many rows, group after group; and of those that belong with the last one and are too many."""
    order = sorted(groups, key=lambda i: (lot(salt, groups[i]), lot(salt, whole[i])))
    last = groups[order[size - 1]]
    return sorted(order[:size]), [i for i in order[size:] if groups[i] == last]


def lot(salt: bytes, text: str) -> bytes:
    """By what rows are drawn: those with the smallest are held out."""
    return hmac.new(salt, b"held-out\x00" + text.encode(), hashlib.sha256).digest()
