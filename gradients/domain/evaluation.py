"""Measurements on held-out rows, and what scoring makes of them."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gradients.domain.task import Hotkey
from gradients.errors import Blame

Better = Literal["lower", "higher"]
SIGMAS_OF_95_PERCENT = 1.96


class Interval(NamedTuple):
    """Where a mean lies with 95 %, by the normal approximation."""

    low: float
    high: float

    @classmethod
    def around(cls, mean: float, stderr: float) -> Interval:
        """The interval of a mean with this standard error."""
        reach = SIGMAS_OF_95_PERCENT * stderr
        return cls(mean - reach, mean + reach)


@dataclass(frozen=True, slots=True)
class Metric:
    """Which number was measured. A change of the number's meaning is a new version."""

    name: str
    unit: str
    version: int
    better: Better


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a submission changed in its base, and what that does, in few numbers: copies of one model have one fingerprint."""

    update: tuple[float, ...]  # a random projection of the merged weights' difference to the base
    outputs: tuple[
        float, ...
    ] = ()  # a random projection of how outputs differ from the base's, on rows nobody has seen


@dataclass(frozen=True, slots=True)
class Measurement:
    """One entrant on the held-out rows."""

    entrant: str  # a hotkey, or BASE_ENTRANT
    metric: Metric
    value: float  # mean over the rows it was measured on
    stderr: float  # standard error of that mean
    per_row: tuple[float, ...]  # the metric of each row that was measured, in the file's order
    extras: tuple[tuple[str, float], ...] = ()  # numbers beside the metric, such as the token-weighted mean
    fingerprint: Fingerprint | None = None  # of the base and of what cannot be sketched: none
    rows_of: int | None = (
        None  # how many held-out rows there are, of an entrant that stopped early (gradients/scoring/racing.py)
    )

    def gain_over(self, base: Measurement) -> float | None:
        """How much better than the base's the value is, in parts of the base's; None where that is 0."""
        improved = base.value - self.value if self.metric.better == "lower" else self.value - base.value
        return improved / abs(base.value) if base.value else None

    def gain_interval(self, base: Measurement) -> Interval | None:
        """Where `gain_over` lies, from the differences row by row: both saw the same rows, so most of their noise is shared.

        None where the base's value is 0, of an entrant that stopped early, and with fewer than two rows.
        """
        if not base.value or len(self.per_row) != len(base.per_row) or len(self.per_row) < 2:
            return None
        sign = 1.0 if self.metric.better == "lower" else -1.0
        ahead = [
            sign * (theirs - ours) / abs(base.value) for ours, theirs in zip(self.per_row, base.per_row, strict=True)
        ]
        return Interval.around(statistics.fmean(ahead), statistics.stdev(ahead) / math.sqrt(len(ahead)))


@dataclass(frozen=True, slots=True)
class Placing:
    """One miner's result in one task."""

    hotkey: Hotkey
    rank: int | None  # 1 is best; None without a measurement
    points: float  # by the rules in force, before the task's size counts: version 2's are the chance of being best
    adjusted_points: float  # points times the size factor
    reason: str  # one sentence for the miner
    gain: float | None = None  # how much better than the base, in the metric's unit; None without a measurement
    copy_of: Hotkey | None = None  # the earlier submission, or BASE_ENTRANT, that this one repeats
    fault: Blame | None = None  # whose fault it is that there is no measurement
