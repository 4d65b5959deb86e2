"""The small linear algebra of Yuma consensus, in float64 (the chain uses fixed point; they agree to a few rao in a billion)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]  # [n], one per uid
Matrix = NDArray[np.float64]  # [n, n], validator by miner
Mask = NDArray[np.bool_]  # [n]
Counts = NDArray[np.int64]  # [n], block numbers

ROUNDING = 1e-12


def normalized(values: Vector) -> Vector:
    """Scaled to sum 1; zeros stay zeros."""
    total = float(values.sum())
    scaled: Vector = values / total if total > 0 else np.zeros_like(values)
    return scaled


def by_rows(values: Matrix) -> Matrix:
    """Every row scaled to sum 1; empty rows stay empty."""
    totals = values.sum(axis=1, keepdims=True)
    scaled: Matrix = np.divide(values, totals, out=np.zeros_like(values), where=totals > 0)
    return scaled


def by_columns(values: Matrix) -> Matrix:
    """Every column scaled to sum 1; empty columns stay empty."""
    return by_rows(values.T).T


def to_column_tops(values: Matrix) -> Matrix:
    """Every column scaled so that its largest entry is 1; empty columns stay empty."""
    tops = values.max(axis=0, keepdims=True, initial=0.0)
    scaled: Matrix = np.divide(values, tops, out=np.zeros_like(values), where=tops > 0)
    return scaled


def weighted_medians(stake: Vector, values: Matrix, *, majority: float) -> Vector:
    """For each column the largest value that holders of at least `majority` of the stake support."""
    voters = stake > 0
    if not voters.any():
        return np.zeros(values.shape[1])
    shares = normalized(stake[voters])
    order = values[voters].argsort(axis=0, kind="stable")
    ascending = np.take_along_axis(values[voters], order, axis=0)
    behind = shares[order].cumsum(axis=0)
    decisive = behind > 1 - majority + ROUNDING
    decisive[-1] = True
    medians: Vector = np.take_along_axis(ascending, decisive.argmax(axis=0)[None, :], axis=0)[0]
    return medians


def largest(values: Vector, count: int) -> Mask:
    """Which are the `count` largest; zeros never are, and of equals the later one goes first."""
    chosen = np.zeros(len(values), dtype=bool)
    chosen[values.argsort(kind="stable")[::-1][:count]] = True
    return chosen & (values > 0)
