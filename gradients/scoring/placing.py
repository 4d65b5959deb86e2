"""From measurements of one task to places and points, keyed by hotkey: one failed entrant changes nobody else's score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradients.domain.evaluation import Better, Placing
from gradients.domain.failure import Failure
from gradients.domain.task import Hotkey
from gradients.errors import Blame
from gradients.scoring.rules import Rules


@dataclass(frozen=True, slots=True)
class Entry:
    """One miner's outcome in a task: a finite value, or the failure that took its place."""

    hotkey: Hotkey
    value: float | None
    committed_at_block: int  # earlier commitments win ties
    failure: Failure | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.failure is None):
            raise ValueError(f"{self.hotkey} needs either a value or a failure")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"{self.hotkey} has the value {self.value}; a value that is not finite is a failure")


def size_factor(*, parameters: int, hours: float, rules: Rules) -> float:
    """max(1, 2·sqrt(size·hours)), with the size in billions of parameters within the rules' bounds (paper, section 4.2)."""
    billions = min(max(parameters / 1e9, rules.size_floor_billions), rules.size_cap_billions)
    return max(1.0, 2.0 * math.sqrt(billions * hours))


def place(entries: Sequence[Entry], *, base_value: float, better: Better, factor: float, rules: Rules) -> list[Placing]:
    """Places and points of all miners of one task, best first, failures last.

    Args:
        entries: one per miner, in any order; the result does not depend on it.
        base_value: what the untouched base measures on the same rows.
        better: which way the metric points.
        factor: see size_factor.
    """
    sign = 1.0 if better == "lower" else -1.0
    measured = sorted(
        (entry for entry in entries if entry.value is not None),
        key=lambda e: (sign * (e.value or 0.0), e.committed_at_block, e.hotkey),
    )
    distinct, left_out = list[Entry](), list[Entry]()
    for entry in measured:  # of equal values the first keeps the place: it committed earlier
        repeats = bool(distinct) and entry.value == distinct[-1].value
        (left_out if repeats or entry.value == base_value else distinct).append(entry)
    field = len(distinct)
    losers = max(1, field // 4) if field > rules.large_field else 0
    placings = []
    for rank, entry in enumerate(distinct, start=1):
        points, why = 0.0, f"rank {rank} of {field}"
        if rank == 1:
            points, why = rules.first_points, "best of the field"
        elif rank > field - losers:
            points, why = rules.last_points, f"bottom quarter of {field} entrants"
        placings.append(_placing(entry, rank, points=points, factor=factor, reason=why))
    own_fault = rules.last_points if field else 0.0  # it costs points only when somebody else delivered
    for entry in left_out:
        like = "the base does" if entry.value == base_value else "an earlier one"
        why = f"measures exactly as {like}; not counted as a fine-tune"
        placings.append(_placing(entry, None, points=own_fault, factor=factor, reason=why))
    failed = [(entry, entry.failure) for entry in entries if entry.failure is not None]
    for entry, failure in sorted(failed, key=lambda pair: pair[0].hotkey):
        points = own_fault if failure.blame is Blame.MINER else 0.0
        why = f"{failure.code}: {failure.message}"
        placings.append(_placing(entry, None, points=points, factor=factor, reason=why))
    return placings


def _placing(entry: Entry, rank: int | None, *, points: float, factor: float, reason: str) -> Placing:
    return Placing(hotkey=entry.hotkey, rank=rank, points=points, adjusted_points=points * factor, reason=reason)
