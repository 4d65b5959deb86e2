"""How the learning rate moves through a run, and how long the pieces of a run last. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

Schedule = Literal["linear", "cosine", "constant"]


def rate_factor(progress: float, *, schedule: Schedule, warmup_fraction: float) -> float:
    """What the peak learning rate is multiplied by, 0..1, when `progress` (0..1) of the run is done.

    A straight rise during warm-up, then the schedule; "linear" and "cosine" reach zero exactly at the end, which beats stopping
    above it (arXiv 2502.15938).
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup_fraction:
        return progress / warmup_fraction
    rest = (progress - warmup_fraction) / max(1.0 - warmup_fraction, 1e-9)
    if schedule == "linear":
        return 1.0 - rest
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * rest))
    return 1.0


@dataclass(frozen=True, slots=True)
class TimeBox:
    """From when to when a run lasts, in seconds since the Unix epoch, and what must still fit in after its last step."""

    started: float
    deadline: float
    validation_seconds: float = 0.0
    saving_seconds: float = 0.0

    @property
    def training_ends(self) -> float:
        """When the last step must be done, so that choosing and saving the result fit in before the deadline.

        Both are taken at more than they were measured, because other processes may want the machine just then.
        """
        spare = max(1.0, 0.02 * (self.deadline - self.started))
        return self.deadline - 1.5 * self.validation_seconds - 3.0 * self.saving_seconds - spare

    @property
    def training_seconds(self) -> float:
        """From the start to the end of training."""
        return self.training_ends - self.started

    def fraction(self, now: float) -> float:
        """How much of the whole budget is used up, 0..1."""
        return min(max((now - self.started) / max(self.deadline - self.started, 1e-9), 0.0), 1.0)


class Leg(NamedTuple):
    """A stretch of training; it ends with its time or with its rows, whichever is used up first."""

    seconds: float
    rows: float

    def done(self, *, seconds: float, rows: float) -> float:
        """How much of the stretch lies behind after so much training, 0..1."""
        return min(max(seconds / max(self.seconds, 1e-9), rows / max(self.rows, 1e-9), 0.0), 1.0)


class Every:
    """Says when a while has passed since it last said so."""

    def __init__(self, seconds: float, now: Callable[[], float]) -> None:
        self._seconds = seconds
        self._now = now
        self._next = now() + seconds

    def due(self) -> bool:
        """Whether the time has come; if so, the next time is a while from now."""
        now = self._now()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True
