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
    distinct = [entry for i, entry in enumerate(measured) if not _repeats(measured, i) and entry.value != base_value]
    placings = [_placed(entry, rank, len(distinct), factor, rules) for rank, entry in enumerate(distinct, start=1)]
    placings += [_unplaced(e, base_value, len(distinct), factor, rules) for e in measured if e not in distinct]
    failed = sorted((entry for entry in entries if entry.failure is not None), key=lambda e: e.hotkey)
    return placings + [_failed(entry, len(distinct), factor, rules) for entry in failed]


def _repeats(measured: Sequence[Entry], position: int) -> bool:
    """Whether the entry before has the very same value; it committed earlier and keeps the place."""
    return position > 0 and measured[position].value == measured[position - 1].value


def _placed(entry: Entry, rank: int, field: int, factor: float, rules: Rules) -> Placing:
    losers = max(1, field // 4) if field > rules.large_field else 0
    if rank == 1:
        return _placing(entry, rank, rules.first_points, factor, "best of the field")
    if rank > field - losers:
        return _placing(entry, rank, rules.last_points, factor, f"bottom quarter of {field} entrants")
    return _placing(entry, rank, 0.0, factor, f"rank {rank} of {field}")


def _unplaced(entry: Entry, base_value: float, field: int, factor: float, rules: Rules) -> Placing:
    points = rules.last_points if field else 0.0
    why = "measures exactly as the base does" if entry.value == base_value else "measures exactly as an earlier one"
    return _placing(entry, None, points, factor, f"{why}; not counted as a fine-tune")


def _failed(entry: Entry, field: int, factor: float, rules: Rules) -> Placing:
    """A miner's own failure costs points when somebody else delivered; anybody else's failure costs the miner nothing."""
    failure = entry.failure
    assert failure is not None  # noqa: S101 (for the type checker: failed entries carry one)
    points = rules.last_points if failure.blame is Blame.MINER and field else 0.0
    return _placing(entry, None, points, factor, f"{failure.code}: {failure.message}")


def _placing(entry: Entry, rank: int | None, points: float, factor: float, reason: str) -> Placing:
    return Placing(hotkey=entry.hotkey, rank=rank, points=points, adjusted_points=points * factor, reason=reason)
