"""What Yuma makes of several validators' weights, day by day."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gradients.localchain.epoch import yuma
from gradients.localchain.pallets.subtensor import U16_MAX
from gradients.simulator.figures import WARM_UP_DAYS
from gradients.simulator.run import BLOCKS_PER_DAY

STAKE, COPIERS_STAKE = 1e12, 0.1


class Agreement(NamedTuple):
    """Means over the days after the warm-up; the copiers' are 0 where nobody copies."""

    trust: float  # of validators with tasks of their own
    copiers_trust: float
    copiers_pay: float  # dividends of a copier for its stake, in parts of the others'


def agreement(weights: np.ndarray, *, copiers: int = 0) -> Agreement:
    """Yuma over one epoch a day, with equal stakes; copiers have a tenth, so that the median is the others'.

    Args:
        weights: [validators, days, miners], each validator's own.
        copiers: validators besides these, who send the mean of what the others sent the day before.
    """
    own, days, miners = weights.shape
    count = own + copiers
    size = count + miners
    bonds = np.zeros((size, size))
    outcomes = []
    for day in range(days):
        sent = np.zeros((size, size))
        sent[:own, count:] = weights[:, day]
        sent[own:count, count:] = weights[:, max(day - 1, 0)].mean(axis=0)
        outcome = yuma.run(_neurons(sent, bonds, own=own, copiers=copiers, day=day), yuma.Rules())
        bonds = outcome.bonds
        outcomes.append(outcome)
    counted = outcomes[min(WARM_UP_DAYS, days // 2) :]
    trust = np.mean([outcome.validator_trust for outcome in counted], axis=0)
    dividends = np.mean([outcome.dividends for outcome in counted], axis=0)
    if not copiers:
        return Agreement(float(trust[:own].mean()), 0.0, 0.0)
    ratio = float(dividends[own:count].mean() / dividends[:own].mean()) / COPIERS_STAKE
    return Agreement(float(trust[:own].mean()), float(trust[own:count].mean()), ratio)


def _neurons(sent: np.ndarray, bonds: np.ndarray, *, own: int, copiers: int, day: int) -> yuma.NeuronStates:
    """Validators first, then miners; weights go in as the chain has them, the largest as 65535."""
    size, block = len(sent), (day + 1) * BLOCKS_PER_DAY
    tops = sent.max(axis=1, keepdims=True)
    stake = np.array([STAKE] * own + [STAKE * COPIERS_STAKE] * copiers + [0.0] * (size - own - copiers))
    return yuma.NeuronStates(
        block=block,
        bonds_since_block=block - BLOCKS_PER_DAY,
        stake=stake,
        weights=np.round(np.divide(sent, tops, out=np.zeros_like(sent), where=tops > 0) * U16_MAX),
        bonds=bonds,
        permits=stake > 0,
        last_update=np.full(size, block - 1, dtype=np.int64),
        registered_at=np.zeros(size, dtype=np.int64),
    )
