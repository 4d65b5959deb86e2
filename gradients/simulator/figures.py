"""What a run says: who is paid, whether it is the right one, and how calm it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradients.simulator.market import Market

WORKERS = ("honest", "struck", "newcomer", "sybils")  # groups among which the truly best miner is looked for
RANKED = ("honest", "struck")
WARM_UP_DAYS = 7
WEEK = 7
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # 97.5 %, for 1 to 9 degrees of freedom


@dataclass(frozen=True, slots=True)
class Figures:
    """One seed's."""

    weeks: int
    best_paid_most: float  # part of the weeks
    pay: Mapping[str, float]  # group -> share of all pay
    spearman: float  # of pay and skill, among honest miners
    change_per_day: float  # half the sum of the weights' changes
    newcomer_days: Mapping[str, float] | None  # "50", "90" -> days until that part of its later share, in per cent


def figures(market: Market, weights: np.ndarray) -> Figures:
    """Of `weights` [days, miners]; the days of the warm-up don't count."""
    days = len(weights)
    first = min(WARM_UP_DAYS, days // 2)
    counted = weights[first:]
    weeks = [counted[start : start + WEEK].mean(axis=0) for start in range(0, len(counted), WEEK)]
    skills = np.array([miner.skill for miner in market.miners])
    groups = [miner.group for miner in market.miners]
    owners = ["sybils" if miner.group == "sybils" else miner.hotkey for miner in market.miners]
    best = max(miner.skill for miner in market.miners if miner.group in WORKERS and miner.first_day < first)
    right = {
        o for o, miner in zip(owners, market.miners, strict=True) if miner.group in WORKERS and miner.skill >= best
    }
    mean = counted.mean(axis=0)
    ranked = [i for i, group in enumerate(groups) if group in RANKED]
    return Figures(
        weeks=len(weeks),
        best_paid_most=float(np.mean([_paid_most(week, owners) in right for week in weeks])),
        pay={group: float(sum(mean[i] for i, g in enumerate(groups) if g == group)) for group in dict.fromkeys(groups)},
        spearman=spearman(mean[ranked], skills[ranked]),
        change_per_day=float(np.abs(np.diff(counted, axis=0)).sum(axis=1).mean() / 2) if len(counted) > 1 else 0.0,
        newcomer_days=_newcomer_days(market, weights),
    )


def _paid_most(shares: np.ndarray, owners: Sequence[str]) -> str:
    """The owner whose hotkeys have most together."""
    return max(dict.fromkeys(owners), key=lambda owner: sum(shares[i] for i, o in enumerate(owners) if o == owner))


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation; equal values share their mean rank. 0 where one of the two says nothing."""
    a, b = _mean_ranks(x), _mean_ranks(y)
    return float(np.corrcoef(a, b)[0, 1]) if min(a.std(), b.std()) > 0 else 0.0


def interval(values: Sequence[float]) -> list[float]:
    """The mean's 95 % interval over seeds (Student's t); of one value that value."""
    mean, count = sum(values) / len(values), len(values)
    if count == 1:
        return [mean, mean]
    quantile = STUDENT[count - 2] if count - 2 < len(STUDENT) else 1.96
    half = quantile * float(np.std(values, ddof=1)) / math.sqrt(count)
    return [mean - half, mean + half]


def ratio_interval(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """The interval of sum(above) / sum(below), by leaving out one seed after the other (jackknife)."""
    count, whole = len(above), sum(above) / sum(below)
    if count == 1:
        return [whole, whole]
    without = [(sum(above) - a) / (sum(below) - b) for a, b in zip(above, below, strict=True)]
    return interval([count * whole - (count - 1) * each for each in without])


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
    return ranks


def _newcomer_days(market: Market, weights: np.ndarray) -> dict[str, float] | None:
    """From the first day on; its later share is the mean of the last ten days. A share that it never has takes all days."""
    found = [(i, miner.first_day) for i, miner in enumerate(market.miners) if miner.group == "newcomer"]
    if not found or len(weights) < found[0][1] + 2 * WEEK:
        return None
    i, start = found[0]
    later = weights[-10:, i].mean()
    since = weights[start:, i]
    reached = {name: np.flatnonzero(since >= part * later) for name, part in (("50", 0.5), ("90", 0.9))}
    return {name: float(days[0] + 1 if len(days) else len(since)) for name, days in reached.items()}
