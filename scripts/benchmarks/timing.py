"""Timing something several times, and the figure that comes of it."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, in `unit`."""

    what: str
    unit: str
    median: float
    lowest: float
    highest: float

    def as_text(self) -> str:
        """One line for people."""
        return f"{self.what:<52} {self.median:>10.4g} {self.unit:<8} ({self.lowest:.4g} to {self.highest:.4g})"

    def as_json(self) -> dict[str, str | float]:
        """The same for scripts."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Ratios:
    """By name, how many times longer others take than we."""

    ratios: dict[str, float]

    def as_text(self) -> str:
        """One line for people."""
        return ", ".join(f"{name} {ratio:.3g}x" for name, ratio in self.ratios.items())

    def as_json(self) -> dict[str, dict[str, float]]:
        """The same for scripts."""
        return {"ratios": self.ratios}


def figure(what: str, unit: str, values: list[float]) -> Figure:
    """The figure of several measurements."""
    return Figure(what, unit, statistics.median(values), min(values), max(values))


def seconds_of(work: Callable[[], object], *, runs: int) -> list[float]:
    """Wall time of each run, after one that doesn't count."""
    work()
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return taken


def said(benchmark: str, measured: Figure | Ratios, *, as_json: bool) -> str:
    """The line that a benchmark prints for a figure."""
    if as_json:
        return json.dumps({"benchmark": benchmark, **measured.as_json()})
    return f"{benchmark:<11} {measured.as_text()}"
