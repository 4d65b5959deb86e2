"""Yuma consensus: from stake and weights to incentive, dividends and bonds (subtensor: epoch/run_epoch). Pure functions.

Two ways to keep bonds are known: Yuma 2 (one moving average, bonds sum to 1 per miner) and Yuma 3 (bonds per pair in 0..1, with an
optional "liquid" rate that depends on how far a validator is from the consensus).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradients.localchain.epoch.matrices import (
    Counts,
    Mask,
    Matrix,
    Vector,
    by_columns,
    by_rows,
    largest,
    normalized,
    to_column_tops,
    weighted_medians,
)
from gradients.localchain.pallets.subtensor import U16_MAX

FLOOR_TOLERANCE = 1e-6  # float64 lands a hair under whole numbers that fixed point hits


@dataclass(frozen=True, slots=True)
class LiquidAlpha:
    """Bounds of the liquid rate, and how steeply it turns from one to the other."""

    low: float = 0.7
    high: float = 0.9
    steepness: float = 1000.0


@dataclass(frozen=True, slots=True)
class Rules:
    """A subnet's parameters; shares are 0..1."""

    kappa: float = 32767 / U16_MAX
    bonds_moving_average: float = 0.9
    bonds_penalty: float = 1.0
    max_validators: int = 128
    activity_cutoff_blocks: int = 5000
    stake_threshold_rao: int = 0
    yuma3: bool = False
    liquid_alpha: LiquidAlpha | None = None


@dataclass(frozen=True, slots=True)
class NeuronStates:
    """A subnet's neurons before its epoch. Vectors have one entry per uid; matrices are validator by miner, in u16 units."""

    block: int
    bonds_since_block: int  # bonds to neurons that registered in this block or later don't count
    stake: Vector  # rao
    weights: Matrix
    bonds: Matrix
    permits: Mask
    last_update: Counts
    registered_at: Counts
    committed_at: Counts | None = None  # oldest sealed commit per validator, in the commit-reveal regime
    owner_uid: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A subnet after its epoch. Shares are 0..1; bonds are in u16 units, whole."""

    stake_shares: Vector
    active_stake_shares: Vector
    active: Mask
    permits: Mask
    consensus: Vector
    validator_trust: Vector
    incentive: Vector
    dividends: Vector
    bonds: Matrix

    @property
    def server_shares(self) -> Vector:
        """Each uid's part of all emission for its incentive."""
        return normalized(np.concatenate([self.incentive, self.dividends]))[: len(self.incentive)]

    @property
    def validator_shares(self) -> Vector:
        """Each uid's part of all emission for its dividends; stake decides when no neuron was rated."""
        if self.incentive.any() or self.dividends.any():
            return normalized(np.concatenate([self.incentive, self.dividends]))[len(self.incentive) :]
        return self.active_stake_shares if self.active_stake_shares.any() else self.stake_shares


def run(neurons: NeuronStates, rules: Rules) -> Outcome:
    """One epoch."""
    counted = _with_owner(neurons.stake >= rules.stake_threshold_rao, neurons.owner_uid)
    stake = normalized(np.where(counted, neurons.stake, 0.0))
    permits = _with_owner(neurons.permits, neurons.owner_uid)
    active = neurons.last_update + rules.activity_cutoff_blocks >= neurons.block
    active_stake = normalized(np.where(active & permits, stake, 0.0))
    weights = _valid_weights(neurons, permits)
    consensus = weighted_medians(active_stake, weights, majority=rules.kappa)
    clipped = np.minimum(weights, consensus)
    incentive = normalized(active_stake @ clipped)
    toward = weights + rules.bonds_penalty * (clipped - weights)
    kept = np.where(neurons.bonds_since_block <= neurons.registered_at, 0.0, neurons.bonds)
    keep_bonds = _yuma3 if rules.yuma3 else _yuma2
    dividends, bonds = keep_bonds(_Bonds(toward, kept, active_stake, incentive, consensus), rules)
    elected = _with_owner(largest(stake, rules.max_validators), neurons.owner_uid)
    # Who keeps or gets a permit has bonds stored; who loses it loses them; rows of all others are not touched.
    stored = np.floor(bonds * U16_MAX + FLOOR_TOLERANCE)
    bonds_after = np.where(elected[:, None], stored, np.where(permits[:, None], 0.0, neurons.bonds))
    return Outcome(
        stake_shares=stake,
        active_stake_shares=active_stake,
        active=active,
        permits=elected,
        consensus=consensus,
        validator_trust=clipped.sum(axis=1),
        incentive=incentive,
        dividends=dividends,
        bonds=bonds_after,
    )


@dataclass(frozen=True, slots=True)
class _Bonds:
    toward: Matrix  # what validators say now: weights, drawn to the consensus by the penalty
    kept: Matrix  # bonds so far, in u16 units
    active_stake: Vector
    incentive: Vector
    consensus: Vector


def _yuma2(given: _Bonds, rules: Rules) -> tuple[Vector, Matrix]:
    alpha = 1 - rules.bonds_moving_average
    bought = by_columns(given.toward * given.active_stake[:, None])
    bonds = by_columns(alpha * bought + (1 - alpha) * by_columns(given.kept))
    return normalized(bonds @ given.incentive), to_column_tops(bonds)


def _yuma3(given: _Bonds, rules: Rules) -> tuple[Vector, Matrix]:
    before = given.kept / U16_MAX
    alpha = _rates(given, before, rules)
    bonds = np.minimum((1 - alpha) * before + alpha * given.toward, 1.0)
    return normalized((by_columns(bonds) @ given.incentive) * given.active_stake), bonds


def _rates(given: _Bonds, before: Matrix, rules: Rules) -> Matrix:
    """How fast each bond moves: one rate for all, or the liquid one."""
    liquid = rules.liquid_alpha
    if liquid is None or not given.consensus.any():
        return np.full_like(before, 1 - rules.bonds_moving_average)
    buying = np.clip(given.toward - given.consensus, 0, 1)
    selling = np.clip(before - given.toward, 0, 1)
    distance = np.where(given.toward >= before, buying, selling)
    sigmoid = 1 / (1 + np.exp(-liquid.steepness / 100 * (distance - 0.5)))
    return np.clip(liquid.low + sigmoid * (liquid.high - liquid.low), liquid.low, liquid.high)


def _valid_weights(neurons: NeuronStates, permits: Mask) -> Matrix:
    """Row-normalized weights of permitted validators, without weights on oneself and on neurons that came later."""
    void = np.eye(len(permits), dtype=bool)
    if neurons.owner_uid is not None:
        void[neurons.owner_uid, neurons.owner_uid] = False
    void |= ~permits[:, None]
    void |= neurons.last_update[:, None] <= neurons.registered_at[None, :]
    if neurons.committed_at is not None:
        void |= neurons.committed_at[:, None] < neurons.registered_at[None, :]
    return by_rows(np.where(void, 0.0, neurons.weights))


def _with_owner(mask: Mask, owner_uid: int | None) -> Mask:
    if owner_uid is None:
        return mask
    marked = mask.copy()
    marked[owner_uid] = True
    return marked
