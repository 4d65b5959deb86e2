"""What goes into the rules of pay and what comes out: values that an auditor can read as well as the validator."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradients.domain.evaluation import Better, Fingerprint, Placing
from gradients.domain.failure import Failure
from gradients.domain.task import Hotkey
from gradients.errors import Blame
from gradients.scoring.row_order import places_of

SCHEDULED = "schedule"  # the customer of synthetic tasks
REMEMBERED_WINNERS = 200  # of earlier tasks, with which submissions are compared


@dataclass(frozen=True, slots=True)
class Entry:
    """One miner's outcome in a task: a finite value for each held-out row, or the failure that took their place.

    Whoever stopped early has values for the first rows of the race only (row_order.py), in the file's order like all values.
    """

    hotkey: Hotkey
    rows: tuple[float, ...]  # empty for a failure
    committed_at_block: int = 0
    committed_extrinsic: int = 0  # its index within the block
    failure: Failure | None = None
    fingerprint: Fingerprint | None = None

    def __post_init__(self) -> None:
        if (not self.rows) == (self.failure is None):
            raise ValueError(f"{self.hotkey} needs either values or a failure")
        require_finite(self.hotkey, self.rows)

    @property
    def value(self) -> float:
        """The mean over rows."""
        return math.fsum(self.rows) / len(self.rows)

    @property
    def order(self) -> tuple[int, int, str]:
        """Who was first: by the commitment's place in the chain."""
        return self.committed_at_block, self.committed_extrinsic, self.hotkey


@dataclass(frozen=True, slots=True)
class Winner:
    """The model that won an earlier task on the same base."""

    hotkey: Hotkey
    task_id: str
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class Contest:
    """One measured task."""

    entries: tuple[Entry, ...]  # one per miner, in any order; no result depends on it
    base: tuple[float, ...]  # what the untouched base measures on the same rows
    better: Better
    base_parameters: int
    hours: float
    seed: int = 0  # from the deadline block's hash: nobody knew it while committing
    earlier: tuple[Winner, ...] = ()

    def __post_init__(self) -> None:
        if not self.base:
            raise ValueError("A contest needs the base's values")
        require_finite("the base", self.base)
        if odd := [entry.hotkey for entry in self.entries if len(entry.rows) > len(self.base)]:
            raise ValueError(f"{odd[0]} was measured on more than the base's {len(self.base)} rows")
        if len({entry.hotkey for entry in self.entries}) < len(self.entries):
            raise ValueError("A miner has one entry in a contest")

    @property
    def sign(self) -> float:
        """1 where lower values are better, -1 where higher ones are."""
        return 1.0 if self.better == "lower" else -1.0

    @property
    def base_size(self) -> float:
        """The base's value without its sign; 1 where that is 0."""
        return abs(float(np.array(self.base).mean())) or 1.0

    def in_full(self, entry: Entry) -> bool:
        """Whether it was measured on all rows."""
        return len(entry.rows) == len(self.base)

    def stopped_after(self, needed: Mapping[Hotkey, int]) -> Contest:
        """The same contest with no more rows of each measured entry than it needs."""
        entries = []
        for entry in self.entries:
            known = min(needed.get(entry.hotkey, 0), len(entry.rows))
            entries.append(replace(entry, rows=tuple(self.values(entry, known).tolist())) if known else entry)
        return replace(self, entries=tuple(entries))

    def after(self, known: int, entries: Sequence[Entry]) -> Contest:
        """The same contest after the first `known` rows of the race, of entries that have as many or more."""
        return replace(
            self,
            entries=tuple(replace(each, rows=tuple(self.values(each, known).tolist())) for each in entries),
            base=tuple(self._base_of(known).tolist()),
        )

    def gains(self, entry: Entry, *, known: int | None = None) -> np.ndarray:
        """How much better than the base an entry is on the rows that it was measured on, or on the first `known` of the race."""
        known = len(entry.rows) if known is None else known
        found: np.ndarray = self.sign * (self._base_of(known) - self.values(entry, known))
        return found

    def values(self, entry: Entry, known: int) -> np.ndarray:
        """[known]: an entry's values of the first `known` rows of the race, in the file's order."""
        if known == len(entry.rows):
            return np.array(entry.rows)
        mine, wanted = (places_of(self.seed, len(self.base), known=count) for count in (len(entry.rows), known))
        found: np.ndarray = np.array(entry.rows)[np.searchsorted(mine, wanted)]
        return found

    def _base_of(self, known: int) -> np.ndarray:
        base = np.array(self.base)
        return base if known == len(base) else base[places_of(self.seed, len(base), known=known)]


@dataclass(frozen=True, slots=True)
class Result:
    """One miner's row of one scored task, as the ledger and the public record keep it."""

    task_id: str
    task_type: str
    customer: str  # SCHEDULED for a synthetic task
    hotkey: Hotkey
    points: float
    adjusted_points: float
    factor: float  # of the task's size
    gain: float | None
    copied: bool
    fault: Blame | None
    deadline_block: int
    scored_at: float  # seconds since the Unix epoch
    rules_version: int


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a miner's weight and where it comes from. All parts of an account sum to 1."""

    hotkey: Hotkey
    share: float
    task_id: str  # empty where several tasks make one piece
    why: str


def contest_seed(task_id: str, deadline_hash: str) -> int:
    """63 bits for a task's resamples, from the hash of its deadline block: known to everybody after the deadline and to nobody before."""
    return int.from_bytes(hashlib.sha256(f"{task_id}:{deadline_hash}".encode()).digest()[:8], "big") >> 1


def size_factor(parameters: int, hours: float, *, floor_billions: float, cap_billions: float) -> float:
    """max(1, 2·sqrt(size·hours)), with the size in billions of parameters within bounds (paper, section 4.2)."""
    billions = min(max(parameters / 1e9, floor_billions), cap_billions)
    return max(1.0, 2.0 * math.sqrt(billions * hours))


def failed(entry: Entry, failure: Failure, *, points: float = 0.0, adjusted_points: float = 0.0) -> Placing:
    """The placing of whoever has no measurement."""
    why = f"{failure.code}: {failure.message}"
    return Placing(entry.hotkey, None, points, adjusted_points, why, fault=failure.blame)


def require_finite(whose: str, values: tuple[float, ...]) -> None:
    """Raises ValueError for a value that is not a number to compare: it is a failure, never an entry."""
    for value in values:
        if not math.isfinite(value):
            raise ValueError(f"{whose} has the value {value}; a value that is not finite is a failure")
