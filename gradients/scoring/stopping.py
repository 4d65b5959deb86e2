"""Who of a field needs no more rows: one look at the rows so far, with what the rest of a finite set of rows in a random order may bring.

Whether an entrant is a fine-tune, and near enough to count, is decided by Student's bounds whose error is shared by all entrants. Who could
win resamples is asked what it is to be expected to win: the means of the rows that are not known yet, the resamples and the luck of
training taken together. Those with the least stop, as long as all of them together win no more than may be lost.

Covers: prizes. Does not cover: values so rare that no block has shown one yet, beyond a twin of the worst that was seen.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

MOST_LEADERS = 5  # with whom an entrant is compared
_SURELY = 40.0  # standard errors


class Standing(NamedTuple):
    """A field after some of its rows."""

    gains: np.ndarray  # [k, m], how much better than the base each row is
    luck: np.ndarray  # [k, resamples], what each resample adds to an entrant's mean, in parts of the best gain
    safe: np.ndarray  # [k], who is nobody's copy, whatever the other rows say
    group: np.ndarray  # [k], equal for those who may be one model


class Bar(NamedTuple):
    """What the rules ask for, as they say it."""

    least_gain: float  # of a fine-tune, in the metric's unit …
    base_z: float  # … and in standard errors
    near: float  # part of the best gain that an entrant may be behind


class Verdict(NamedTuple):
    """Who stops at a look."""

    out: np.ndarray  # [k]
    wins: float  # resamples that those who stop are to be expected to win at most, together


def stopped(standing: Standing, bar: Bar, *, rows: int, error: float, wins: float) -> Verdict:
    """Who is to be expected to have no prize with all rows, or so little that it may be lost.

    Args:
        rows: n, of the whole file.
        error: of the bounds of this look, for the whole field.
        wins: how many resamples those who stop may be expected to win, together.
    """
    gains, means = standing.gains, standing.gains.mean(axis=1)
    each = error / (4 * len(gains))  # two bounds of a gain, one of a distance, and the best gain's
    reach = _reach(gains, rows, each)
    expected = np.full(len(gains), np.inf)
    noise = bar.base_z * gains.std(axis=1, ddof=1) / math.sqrt(rows)
    leads = standing.safe & (means - reach > np.maximum(bar.least_gain, noise))
    if leads.any():
        leaders = np.argsort(np.where(leads, -means, np.inf), kind="stable")[: min(MOST_LEADERS, int(leads.sum()))]
        best = (float((means - reach)[leads].max()), float((means + reach).max()))
        expected = _expected_wins(gains, standing.luck, leaders, best=best, rows=rows)
        far = (1 - bar.near) * gains[leaders[0]] - gains
        expected[far.mean(axis=1) >= _reach(far, rows, each)] = 0.0
        expected[leaders[0]] = np.inf
    expected[means + reach <= bar.least_gain] = 0.0
    return _fewest(expected, standing.group, wins)


def student_quantile(probability: float, freedom: int) -> float:
    """Student's quantile by the expansion about the normal one (Abramowitz and Stegun, 26.7.5)."""
    x = NormalDist().inv_cdf(probability)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    found: float = x + sum(term / freedom**power for power, term in enumerate(terms, start=1))
    return found


def student_tail(times: np.ndarray, freedom: int) -> np.ndarray:
    """Student's mass beyond each number of standard errors, by the normal one's (Abramowitz and Stegun, 26.7.8)."""
    normal = times * (1 - 1 / (4 * freedom)) / np.sqrt(1 + times**2 / (2 * freedom))
    return np.array([math.erfc(each / math.sqrt(2.0)) / 2 for each in normal.ravel().tolist()]).reshape(times.shape)


def _expected_wins(
    gains: np.ndarray, luck: np.ndarray, leaders: np.ndarray, *, best: tuple[float, float], rows: int
) -> np.ndarray:
    """[k]: how many resamples each entrant is to be expected to win at most; whoever wins one beats each of the leaders.

    Args:
        gains: [k, m].
        luck: [k, resamples], in parts of the best gain.
        leaders: [l], places of those who are sure to be fine-tunes.
        best: between what the best gain lies.
    """
    known = gains.shape[1]
    beaten = np.full(luck.shape, -_SURELY)  # by how many standard errors
    for leader in leaders:
        behind, luckier = gains[leader] - gains, luck[leader] - luck
        least = behind.mean(axis=1) - _twin(behind, rows)
        lead = least[:, None] + np.minimum(best[0] * luckier, best[1] * luckier)
        # Of the mean of n rows by m of them 1/m - 1/n is uncertain, of a resample of the n another 1/n.
        own = behind.std(
            axis=1, ddof=1
        )  # of few rows an uncertain number: nobody's is taken for less than is usual in the field
        spread = np.maximum(np.maximum(own, np.median(own)) / math.sqrt(known), 1e-300)
        sigmas = np.clip(lead / spread[:, None], -_SURELY, _SURELY)
        sigmas[leader] = -_SURELY
        beaten = np.maximum(beaten, sigmas)
    found: np.ndarray = student_tail(beaten, known - 1).sum(axis=1)
    return found


def _reach(values: np.ndarray, rows: int, error: float) -> np.ndarray:
    """[k]: how far the mean of all n rows may lie from that of the m known ones, on one side."""
    known = values.shape[1]
    unknown = 1 / known - 1 / rows  # without replacement: of rows that are all known nothing is left to guess
    reach: np.ndarray = student_quantile(1 - error, known - 1) * values.std(axis=1, ddof=1) * math.sqrt(unknown)
    reach += _twin(values, rows)
    return reach


def _twin(values: np.ndarray, rows: int) -> np.ndarray:
    """[k]: by how much one more row like the farthest so far moves a mean."""
    farthest: np.ndarray = np.abs(values - values.mean(axis=1, keepdims=True)).max(axis=1)
    farthest *= 1 / values.shape[1] - 1 / rows
    return farthest


def _fewest(expected: np.ndarray, group: np.ndarray, wins: float) -> Verdict:
    """Whole groups, those with the fewest wins first, as long as all who stop have no more than `wins`."""
    totals = {name: float(expected[group == name].sum()) for name in sorted(set(group.tolist()))}
    out, spent = np.zeros(len(expected), dtype=bool), 0.0
    for name in sorted(totals, key=lambda name: (totals[name], name)):
        if spent + totals[name] > wins:
            break
        spent += totals[name]
        out |= group == name
    return Verdict(out, spent)
