"""Racing: how many rows each entrant of a field has to be measured on, when who cannot have a prize stops early.

Held-out rows are measured in blocks, in an order that nobody knew before the deadline. After each block, those stop of whom the rows so far
say that no prize can come to depend on them (stopping.py). What is asked here depends on the rows alone, so whoever holds them, an auditor
too, asks the same: where a race went on after a fault, its stops are those of a race without it.

Covers: prizes, and who is whose copy: whoever may be one model with somebody who goes on goes on, too. Does not cover: ranks and gains of
those who stopped, which are estimates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradients.domain.task import Hotkey
from gradients.scoring.contest import Contest, Entry
from gradients.scoring.copies import CopyLimits, copied_before, first_of_groups, linked_pairs
from gradients.scoring.stopping import Bar, Standing, stopped


@dataclass(frozen=True, slots=True)
class RaceLimits:
    """How a field is raced."""

    moved: float = 0.002  # of a task's prize, that is to be expected to go to others than with all rows
    error: float = 0.01  # of the bounds on who is a fine-tune, over a whole race
    first_rows: int = 48  # of the first block; a field with less than twice as many rows is measured in full
    growth: float = 2.0  # of the rows known, from block to block
    copy_slack: float = 2.0  # on the limit for rows that move together: who is closer may be told for a copy yet


def looks(rows: int, limits: RaceLimits) -> tuple[int, ...]:
    """How many rows are known after each block; the last is all of them."""
    found, known = list[int](), limits.first_rows
    while 2 * limits.first_rows <= rows and known * math.sqrt(limits.growth) < rows:
        found.append(known)
        known = int(known * limits.growth)
    return (*found, rows)


def rows_needed(
    contest: Contest, limits: RaceLimits, *, copies: CopyLimits, bar: Bar, luck: Mapping[Hotkey, np.ndarray]
) -> dict[Hotkey, int]:
    """Hotkey -> on how many rows each measured entrant has to be measured, as far as the rows that are there can tell.

    Whoever has fewer needs the next block; when nobody has, the race is over.

    Args:
        luck: hotkey -> [resamples], what each resample adds to its mean, in parts of the best gain.
    """
    running = sorted((entry for entry in contest.entries if entry.rows), key=lambda entry: entry.order)
    all_looks = looks(len(contest.base), limits)
    error = limits.error / max(len(all_looks) - 1, 1)
    wins = limits.moved * max((len(each) for each in luck.values()), default=0)
    needed = dict.fromkeys((entry.hotkey for entry in running), 0)
    for known in all_looks:
        needed |= dict.fromkeys((entry.hotkey for entry in running), known)
        if known == len(contest.base) or any(len(entry.rows) < known for entry in running):
            break
        so_far = contest.after(known, running)
        standing = _standing(so_far, limits, copies, luck)
        verdict = stopped(standing, bar, rows=len(contest.base), error=error, wins=wins)
        running = [entry for entry, out in zip(running, verdict.out, strict=True) if not out]
        wins -= verdict.wins
        if not running:
            break
    return needed


def _standing(contest: Contest, limits: RaceLimits, copies: CopyLimits, luck: Mapping[Hotkey, np.ndarray]) -> Standing:
    """A contest whose entries, in their order, have the same rows."""
    entries: Sequence[Entry] = contest.entries
    rows = np.array([entry.rows for entry in entries])
    wide = replace(copies, row_ratio=copies.row_ratio * limits.copy_slack, output_cosine=-1.0)
    first = first_of_groups(len(entries), linked_pairs(contest, entries, wide))
    safe = [first[i] == i and copied_before(entry, contest, copies) is None for i, entry in enumerate(entries)]
    return Standing(
        contest.sign * (np.array(contest.base) - rows),
        np.stack([luck[entry.hotkey] for entry in entries]),
        np.array(safe),
        np.array(first),
    )
