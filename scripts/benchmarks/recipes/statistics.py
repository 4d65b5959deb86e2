"""What paired runs say: gains with bootstrap intervals, wins with Wilson's. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

TIE = 1e-3  # of the loss: models that differ by less are equal
DRAWS = 2_000
Z = 1.959964  # of 95 %

Floats = np.ndarray


class Match(NamedTuple):
    """Two arms on the same held-out rows of one task, after training with the same seed."""

    task: str
    seed: int
    ours: Floats  # losses [n]
    theirs: Floats  # the same rows
    failed: bool = False  # whether ours handed nothing in; `ours` is then the base's

    @property
    def gain(self) -> float:
        """By how much our mean loss is lower than theirs, in percent of theirs."""
        return 100.0 * (1.0 - float(self.ours.mean()) / float(self.theirs.mean()))

    @property
    def point(self) -> float:
        """1 for a win, 1/2 for a tie, 0 for a loss; a failure is a loss."""
        if self.failed or self.gain < -100 * TIE:
            return 0.0
        return 1.0 if self.gain > 100 * TIE else 0.5


class Interval(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


class Comparison(NamedTuple):
    """One arm against another."""

    wins: int
    ties: int
    runs: int
    win_rate: Interval  # a tie counts half
    gain: Interval  # percent


def compare(matches: Sequence[Match], *, seed: int = 0) -> Comparison:
    """All matches of two arms, at least one."""
    points = [match.point for match in matches]
    rate = sum(points) / len(points)
    return Comparison(
        wins=points.count(1.0),
        ties=points.count(0.5),
        runs=len(points),
        win_rate=Interval(rate, *wilson(sum(points), len(points))),
        gain=bootstrap(matches, seed=seed),
    )


def wilson(wins: float, runs: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927)."""
    share, z2 = wins / runs, Z * Z
    centre = (share + z2 / (2 * runs)) / (1 + z2 / runs)
    half = Z / (1 + z2 / runs) * math.sqrt(share * (1 - share) / runs + z2 / (4 * runs * runs))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def bootstrap(matches: Sequence[Match], *, seed: int = 0, draws: int = DRAWS) -> Interval:
    """The mean gain over tasks of the mean over seeds, with a hierarchical percentile interval.

    Tasks are drawn anew, then each one's seeds, then each run's held-out rows: tasks differ more than seeds, and seeds more than rows, so
    an interval over rows or runs alone would be far too narrow.
    """
    rng = np.random.default_rng(seed)
    tasks: dict[str, list[Floats]] = defaultdict(list)
    for match in sorted(matches, key=lambda each: (each.task, each.seed)):
        tasks[match.task].append(_resampled_gains(match, rng, draws))
    by_task = list(tasks.values())
    means = np.empty(draws)
    for draw in range(draws):
        chosen = rng.integers(0, len(by_task), len(by_task))
        means[draw] = np.mean([_seeds_mean(by_task[task], rng) for task in chosen])
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(mean_gain(matches), float(low), float(high))


def mean_gain(matches: Sequence[Match]) -> float:
    """The mean over tasks of the mean over seeds, in percent."""
    tasks: dict[str, list[float]] = defaultdict(list)
    for match in matches:
        tasks[match.task].append(match.gain)
    return float(np.mean([np.mean(gains) for gains in tasks.values()]))


def _resampled_gains(match: Match, rng: np.random.Generator, draws: int) -> Floats:
    rows = rng.integers(0, len(match.ours), (draws, len(match.ours)))
    gains: Floats = 100.0 * (1.0 - match.ours[rows].mean(axis=1) / match.theirs[rows].mean(axis=1))
    return gains


def _seeds_mean(seeds: Sequence[Floats], rng: np.random.Generator) -> float:
    """Seeds drawn anew, each with its rows drawn anew."""
    chosen = rng.integers(0, len(seeds), len(seeds))
    return float(np.mean([seeds[i][rng.integers(0, len(seeds[i]))] for i in chosen]))
