"""What trainers report as points of curves: each loss and each end of a run once, and no more points than somebody looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from gradients.tasks.jobs.training import EndedRun, TrainProgress

EVERY_SECONDS = 2.0  # between two points of a train loss


class Point(NamedTuple):
    """Values at a step of their group's own axis."""

    group: str
    step: int
    values: Mapping[str, float]


@dataclass(slots=True)
class Points:
    """Of one task, whose reports come in their order."""

    probes: int = 0
    _written_at: float | None = None
    _kept: tuple[int, float | None, float | None] = (-1, None, None)  # run, last validation, best
    _ended: tuple[int, EndedRun] | None = field(default=None)

    def of(self, now: TrainProgress, *, seconds: float) -> list[Point]:
        """The points that a report adds.

        Args:
            seconds: when it came, on any clock.
        """
        if now.phase == "loading":
            return []
        points = [*self._over(now), *self._validated(now)]
        due = self._written_at is None or seconds - self._written_at >= EVERY_SECONDS
        if points or due or now.phase == "saving":
            group = f"probe-{now.run + 1}" if now.phase == "probing" else "train"
            done = None if now.phase == "probing" else now.fraction
            points += _point(group, now.step, loss=now.loss, learning_rate=now.learning_rate, done=done)
            self._written_at = seconds
        return points

    def _validated(self, now: TrainProgress) -> list[Point]:
        seen = (now.run, now.validation_loss, now.best_loss)
        if now.phase == "probing" or seen == self._kept or (now.validation_loss is None and now.best_loss is None):
            return []
        self._kept = seen
        return _point("validation", now.step, loss=now.validation_loss, best=now.best_loss, base=now.base_loss)

    def _over(self, now: TrainProgress) -> list[Point]:
        ended = now.ended
        if ended is None or self._ended == (now.run, ended):
            return []
        is_probe = ended.batch_rows is None
        if is_probe and self._ended is not None and self._ended[1] == ended:  # the last probe, told in the run after it
            return []
        self._ended = (now.run, ended)
        self.probes += is_probe
        return _point(
            "probes" if is_probe else "search",
            self.probes if is_probe else now.run,
            loss=ended.loss,
            learning_rate=ended.learning_rate,
            batch_rows=ended.batch_rows,
            epochs=ended.epochs,
        )


def _point(group: str, step: int, **values: float | None) -> list[Point]:
    there = {name: float(value) for name, value in values.items() if value is not None}
    return [Point(group, step, there)] if there else []
