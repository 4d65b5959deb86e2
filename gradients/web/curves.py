"""Losses over steps, as they are kept while somebody trains and as a chart is drawn from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gradients.domain.json import JsonObject

MOST_POINTS = 240  # of one curve; a screen shows no more
Point = tuple[int, float]  # step, loss


@dataclass(slots=True)
class Curve:
    """A curve that grows, and thins itself out when it has grown long."""

    points: list[Point] = field(default_factory=list)

    def add(self, step: int, loss: float | None) -> None:
        """One more point, unless it is not a number or lies before the last one. A training that begins anew has a new curve."""
        if loss is None or not math.isfinite(loss):
            return
        if self.points and step < self.points[0][0]:
            self.points.clear()
        if not self.points or step > self.points[-1][0]:
            self.points.append((step, loss))
        if len(self.points) > MOST_POINTS:
            self.points = [*self.points[:-1:2], self.points[-1]]


def chart(curves: Mapping[str, Sequence[Point]]) -> JsonObject:
    """What site.js draws: all steps in order, and the values of each named curve at these, null between its own."""
    steps = sorted({step for points in curves.values() for step, _ in points})
    by_step = {name: dict(points) for name, points in curves.items()}
    series = [{"name": name, "values": [found.get(step) for step in steps]} for name, found in by_step.items()]
    return {"x": steps, "series": series}
