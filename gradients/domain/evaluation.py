"""Measurements on held-out rows, and what scoring makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gradients.domain.task import Hotkey

Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True)
class Metric:
    """Which number was measured. A change of the number's meaning is a new version."""

    name: str
    unit: str
    version: int
    better: Better


@dataclass(frozen=True, slots=True)
class Measurement:
    """One entrant on the held-out rows."""

    entrant: str  # a hotkey, or BASE_ENTRANT
    metric: Metric
    value: float  # mean over rows
    stderr: float  # standard error of that mean
    per_row: tuple[float, ...]  # the metric of each row, one per held-out row, in the file's order
    extras: tuple[tuple[str, float], ...] = ()  # numbers beside the metric, such as the token-weighted mean


@dataclass(frozen=True, slots=True)
class Placing:
    """One miner's result in one task."""

    hotkey: Hotkey
    rank: int | None  # 1 is best; None without a measurement
    points: float  # by the rules in force, before the task's size counts
    adjusted_points: float  # points times the size factor
    reason: str  # one sentence for the miner
