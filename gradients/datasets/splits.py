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

from gradients.datasets.digests import Digests
from gradients.datasets.near_duplicates import near_duplicate_groups, overlapping
from gradients.datasets.normal_texts import normalised, plain
from gradients.datasets.rows import Numbered, Row, SplitSizes
from gradients.datasets.spool import Picked, Spool
from gradients.errors import DatasetInvalid


class Split(NamedTuple):
    """Both sides, each in the order of the source, and what was removed for the sake of the other."""

    train: Sequence[Numbered]
    held_out: Sequence[Numbered]
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
    words = _Words(rows, text=text, group=group, salt=salt)
    exact = words.first_of_equal()
    # A group of more rows than are held out, such as one prompt for all of them, does not count as one.
    rows_of, most = Counter(words.named[i] for i in exact), sizes.held_out(len(exact))
    groups = {i: words.named[i] if rows_of[words.named[i]] <= most else words.lots[i] for i in exact}
    distinct = _one_group_of_each(words, exact, groups)
    removed = {"repeated": len(rows) - len(exact), "nearly repeated": len(exact) - len(distinct)}
    check_distinct(len(distinct), sizes, removed={**left_out, **removed})
    size = sizes.held_out(len(distinct))
    held_out, beside = _drawn({i: groups[i] for i in distinct}, words.lots, size=size)
    away = {*held_out, *beside}
    rest = [i for i in distinct if i not in away]
    leaking = overlapping(Picked(words.texts, rest), Picked(words.texts, held_out))
    train = [i for position, i in enumerate(rest) if position not in leaking]
    if len(train) < sizes.fewest_train:
        shared = f"{len(leaking)} of {len(rest)} rows share long passages with the {size} held-out ones"
        raise _too_few(
            f"{shared}; {len(train)} are left to train on", fix="Give rows that differ more, or more of them"
        )
    removed |= {"belong with held-out rows": len(beside), "overlap with held-out rows": len(leaking)}
    return Split(Picked(rows, train), Picked(rows, held_out), removed)


class _Words:
    """What all rows say, on the disk, with digests that stand for it."""

    def __init__(
        self, rows: Sequence[Numbered], *, text: Callable[[Row], str], group: Callable[[Row], str] | None, salt: bytes
    ) -> None:
        self.texts = Spool[str]()  # normalised
        self.digests = Digests()  # of all that a row says, exactly
        self.lots = Digests()  # by which rows are drawn
        self.named = Digests()  # the lots of what rows say that belong together
        for row in rows:
            said = plain(text(row.row))
            self.texts.append(normalised(said))
            self.digests.append(hashlib.sha256(said.encode()).digest())
            own = lot(salt, said)
            self.lots.append(own)
            self.named.append(lot(salt, normalised(group(row.row))) if group else own)

    def first_of_equal(self) -> list[int]:
        """Positions of rows that say what no row before them says."""
        first = dict[bytes, int]()
        for position, digest in enumerate(self.digests):
            first.setdefault(digest, position)
        return list(first.values())


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


def _one_group_of_each(words: _Words, positions: Sequence[int], groups: Mapping[int, bytes]) -> list[int]:
    """Positions less what is nearly the same as a row of another group, in order.

    The row with the smallest digest stays, so that order plays no part, and with it what its own group has beside it in other words.
    """
    kept: list[int] = []
    for near in near_duplicate_groups(Picked(words.texts, positions)):
        alike = sorted((positions[place] for place in near), key=words.digests.__getitem__)
        own = [i for i in alike if groups[i] == groups[alike[0]]]
        kept += own if len(own) == 1 else {words.texts[i]: i for i in reversed(own)}.values()
    return sorted(kept)


def _drawn(groups: Mapping[int, bytes], lots: Sequence[bytes], *, size: int) -> tuple[list[int], list[int]]:
    """Positions of so many rows, group after group; and of those that belong with the last one and are too many."""
    order = sorted(groups, key=lambda i: (groups[i], lots[i]))
    last = groups[order[size - 1]]
    return sorted(order[:size]), [i for i in order[size:] if groups[i] == last]


def lot(salt: bytes, text: str) -> bytes:
    """By what rows are drawn: those with the smallest are held out."""
    return hmac.new(salt, b"held-out\x00" + text.encode(), hashlib.sha256).digest()
