"""Which rows are held out: drawn by a secret salt, so that nobody with the public data can rebuild the choice.

Covers: the same row, exactly or nearly, never stands on both sides. Does not cover: rows that a miner knows from elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gradients.errors import DatasetInvalid
from gradients.tasks.base import Numbered, Row, SplitSizes
from gradients.tasks.near_duplicates import near_duplicate_groups, normalised, overlapping


class Split(NamedTuple):
    """Both sides, each in the order of the source, and what was removed for the sake of the other."""

    train: tuple[Numbered, ...]
    heldout: tuple[Numbered, ...]
    removed: dict[str, int]


def split(
    rows: Sequence[Numbered],
    *,
    text: Callable[[Row], str],
    salt: bytes,
    sizes: SplitSizes = SplitSizes(),  # noqa: B008 (frozen)
) -> Split:
    """Remove repeated rows, hold out a tenth (16 to 400 rows, or the type's own sizes), and clear the train side of what overlaps.

    Which rows are held out depends on their text and the salt only, not on their order. Raises DatasetInvalid with too few
    usable rows (by default 64), or too few that may be trained on (32).
    """
    texts = [normalised(text(row.row)) for row in rows]
    exact = _first_of_each(texts)
    kept = _one_of_each_group([texts[i] for i in exact])
    distinct = [exact[i] for i in kept]
    if len(distinct) < sizes.fewest_rows:
        raise DatasetInvalid(
            f"Only {len(distinct)} of {len(rows)} rows are usable and distinct; at least {sizes.fewest_rows} are needed",
            code="too_few_rows",
            fix="Give a larger data set",
        )
    size = sizes.held_out(len(distinct))
    drawn = set(sorted(distinct, key=lambda i: _lot(salt, texts[i]))[:size])
    rest = [i for i in distinct if i not in drawn]
    leaking = overlapping([texts[i] for i in rest], [texts[i] for i in drawn])
    train = [i for position, i in enumerate(rest) if position not in leaking]
    if len(train) < sizes.fewest_train:
        raise DatasetInvalid(
            f"{len(leaking)} of {len(rest)} rows share long passages with the {size} held-out ones; {len(train)} are left to train on",
            code="too_few_rows",
            fix="Give rows that differ more, or more of them",
        )
    removed = {
        "repeated": len(rows) - len(exact),
        "nearly repeated": len(exact) - len(distinct),
        "overlap with held-out rows": len(leaking),
    }
    return Split(tuple(rows[i] for i in train), tuple(rows[i] for i in sorted(drawn)), removed)


def _first_of_each(texts: Sequence[str]) -> list[int]:
    """Positions of the first of equal texts, in order."""
    return sorted({text: i for i, text in reversed(list(enumerate(texts)))}.values())


def _one_of_each_group(texts: Sequence[str]) -> list[int]:
    """One position of each group of near-duplicates, in order: the one whose digest is smallest, so that order plays no part."""
    groups = near_duplicate_groups(texts)
    return sorted(min(group, key=lambda i: hashlib.sha256(texts[i].encode()).digest()) for group in groups)


def _lot(salt: bytes, text: str) -> bytes:
    return hmac.new(salt, b"held-out\x00" + text.encode(), hashlib.sha256).digest()
