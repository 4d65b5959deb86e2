"""Yuma against the chain's own test vectors, and what must hold for every subnet."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradients.localchain.epoch import yuma
from gradients.localchain.epoch.matrices import Matrix, largest, weighted_medians

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "yuma_vectors.json").read_text())
KAPPA_MOVES = sorted(VECTORS["yuma3"]["cases"])


def neurons(
    stake: list[float], weights: Matrix, *, validators: int, block: int = 1, bonds: Matrix | None = None
) -> yuma.NeuronStates:
    """A subnet whose first `validators` uids have permits and have just set weights; all registered in block 0."""
    n = len(stake)
    permits = np.arange(n) < validators
    return yuma.NeuronStates(
        block=block,
        bonds_since_block=block,
        stake=np.array(stake, dtype=np.float64),
        weights=weights,
        bonds=np.zeros((n, n)) if bonds is None else bonds,
        permits=permits,
        last_update=np.where(permits, block, 0),
        registered_at=np.zeros(n, dtype=np.int64),
    )


def yuma2_rows() -> Matrix:
    weights = np.zeros((8, 8))
    weights[:4] = VECTORS["yuma2"]["weights_u16_rows_0_to_3"]
    return weights


def test_yuma2s_vectors_are_for_the_rules_that_subnets_have_from_the_start() -> None:
    vector, given_rules = VECTORS["yuma2"], yuma.Rules()
    assert vector["kappa_u16"] == given_rules.kappa * 65535
    assert vector["bonds_moving_average"] == given_rules.bonds_moving_average * 1e6
    assert vector["bonds_penalty"] == given_rules.bonds_penalty * 65535
    assert VECTORS["yuma3"]["kappa_u16"] == vector["kappa_u16"]


def test_yuma2_gives_the_chains_first_epoch() -> None:
    vector = VECTORS["yuma2"]
    expected = vector["epoch_1"]
    outcome = yuma.run(neurons(vector["stake"], yuma2_rows(), validators=4), yuma.Rules())
    emission = vector["emission_rao"]
    assert outcome.consensus[4:] == pytest.approx(expected["consensus_4_to_7"], abs=1e-8)
    assert outcome.dividends[:4] == pytest.approx(expected["dividends_0_to_3"], abs=1e-7)
    assert outcome.server_shares[4:] * emission == pytest.approx(expected["server_emission_rao_4_to_7"], abs=2)
    assert outcome.validator_shares[:4] * emission == pytest.approx(expected["validator_emission_rao_0_to_3"], abs=4)
    assert outcome.bonds[:4, 4].tolist() == expected["bonds_u16_column_4"]


def test_yuma2_keeps_bonds_as_the_chain_does_when_a_validator_turns_to_itself() -> None:
    vector = VECTORS["yuma2"]
    expected = vector["epoch_2_validator_0_sets_only_itself"]
    first = yuma.run(neurons(vector["stake"], yuma2_rows(), validators=4), yuma.Rules())
    weights = yuma2_rows()
    weights[0] = 0
    weights[0, 0] = 65535
    second = yuma.run(neurons(vector["stake"], weights, validators=4, block=2, bonds=first.bonds), yuma.Rules())
    assert second.dividends[:4] == pytest.approx(expected["dividends_0_to_3"], abs=1e-6)
    assert second.validator_shares[:4] * 1e9 == pytest.approx(expected["validator_emission_rao_0_to_3"], abs=300)
    assert second.bonds[:4, 4].tolist() == expected["bonds_u16_column_4"]


@pytest.mark.parametrize("case", KAPPA_MOVES)
def test_yuma3_with_liquid_alpha_gives_the_chains_bonds_and_dividends(case: str) -> None:
    vector, expected = VECTORS["yuma3"], VECTORS["yuma3"]["cases"][case]
    liquid = vector["liquid_alpha"]
    rules = yuma.Rules(
        bonds_moving_average=vector["bonds_moving_average"] / 1e6,
        bonds_penalty=vector["bonds_penalty"] / 65535,
        max_validators=vector["max_validators"],
        yuma3=True,
        liquid_alpha=yuma.LiquidAlpha(liquid["low"], liquid["high"], liquid["steepness"]),
    )
    bonds = np.zeros((5, 5))
    for epoch, targets in enumerate(expected["target_uid_per_epoch"]):
        weights = np.zeros((5, 5))
        weights[range(3), targets] = 65535
        outcome = yuma.run(neurons(expected["stake"], weights, validators=3, block=epoch + 1, bonds=bonds), rules)
        bonds = outcome.bonds
        in_fractions = bonds[:3, 3:] / 65535
        assert in_fractions == pytest.approx(np.array(expected["bonds_3_and_4_as_fraction"][epoch]), abs=1e-3)
        assert outcome.dividends == pytest.approx(np.array(expected["dividends"][epoch]), abs=1e-3)


def test_yuma3_without_liquid_alpha_moves_every_bond_at_one_rate() -> None:
    weights = np.zeros((3, 3))
    weights[0, 2] = weights[1, 2] = 65535
    rules = yuma.Rules(yuma3=True, bonds_moving_average=0.9)
    outcome = yuma.run(neurons([3, 1, 0], weights, validators=2), rules)
    assert outcome.bonds[:2, 2].tolist() == [6553, 6553]  # a tenth of the way from 0 to 65535


def test_a_weight_that_less_than_half_of_the_stake_supports_is_cut_to_the_consensus() -> None:
    stake = np.array([0.4, 0.6])
    weights = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert weighted_medians(stake, weights, majority=32767 / 65535).tolist() == [0.2, 0.8]


def test_of_equal_stakes_the_later_uid_gets_the_last_permit() -> None:
    assert largest(np.array([1.0, 5.0, 1.0, 0.0]), 2).tolist() == [False, True, True, False]


def test_weights_on_oneself_on_newcomers_and_from_the_unpermitted_do_not_count() -> None:
    weights = np.full((4, 4), 1.0)
    given_neurons = neurons([5, 5, 5, 0], weights, validators=2)
    newcomer = replace(given_neurons, registered_at=np.array([0, 0, 0, 1]))
    outcome = yuma.run(newcomer, yuma.Rules())
    assert outcome.incentive[3] == 0  # came in the block of the weights
    assert outcome.incentive[2] == pytest.approx(0.5)
    assert outcome.validator_trust[2] == 0  # no permit: its own row is void


def test_a_validator_that_set_no_weights_for_too_long_earns_nothing() -> None:
    weights = np.zeros((3, 3))
    weights[:2, 2] = 1
    asleep = replace(neurons([1, 1, 0], weights, validators=2, block=6000), last_update=np.array([10, 6000, 0]))
    outcome = yuma.run(asleep, yuma.Rules(activity_cutoff_blocks=5000))
    assert outcome.dividends.tolist() == [0, 1, 0]
    assert outcome.active.tolist() == [False, True, False]


def test_without_any_weights_validators_are_paid_by_stake() -> None:
    outcome = yuma.run(neurons([3, 1, 0], np.zeros((3, 3)), validators=2), yuma.Rules())
    assert not outcome.incentive.any()
    assert outcome.validator_shares.tolist() == [0.75, 0.25, 0]


def test_stake_below_the_threshold_counts_only_for_the_owner() -> None:
    weights = np.zeros((3, 3))
    weights[:2, 2] = 1
    small = replace(neurons([10, 10, 0], weights, validators=2), owner_uid=1)
    outcome = yuma.run(small, yuma.Rules(stake_threshold_rao=100))
    assert outcome.stake_shares.tolist() == [0, 1, 0]
    assert outcome.permits.tolist() == [False, True, False]


def test_bonds_go_with_the_permit() -> None:
    weights = np.zeros((3, 3))
    weights[:2, 2] = 1
    first = yuma.run(neurons([2, 1, 0], weights, validators=2), yuma.Rules())
    assert first.bonds[1].any()
    second = yuma.run(neurons([2, 1, 0], weights, validators=2, bonds=first.bonds), yuma.Rules(max_validators=1))
    assert second.permits.tolist() == [True, False, False]
    assert not second.bonds[1].any()


sizes = st.integers(min_value=1, max_value=7)


@st.composite
def subnets(draw: st.DrawFn) -> yuma.NeuronStates:
    n = draw(sizes)
    whole = st.integers(min_value=0, max_value=65535)
    stake = draw(st.lists(st.integers(min_value=0, max_value=10**15), min_size=n, max_size=n))
    cells = draw(st.lists(whole, min_size=n * n, max_size=n * n))
    bonds = draw(st.lists(whole, min_size=n * n, max_size=n * n))
    permits = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    updates = draw(st.lists(st.integers(min_value=0, max_value=100), min_size=n, max_size=n))
    registered = draw(st.lists(st.integers(min_value=0, max_value=100), min_size=n, max_size=n))
    return yuma.NeuronStates(
        block=100,
        bonds_since_block=90,
        stake=np.array(stake, dtype=np.float64),
        weights=np.array(cells, dtype=np.float64).reshape(n, n),
        bonds=np.array(bonds, dtype=np.float64).reshape(n, n),
        permits=np.array(permits, dtype=bool),
        last_update=np.array(updates, dtype=np.int64),
        registered_at=np.array(registered, dtype=np.int64),
        owner_uid=draw(st.none() | st.integers(min_value=0, max_value=n - 1)),
    )


rules = st.builds(
    yuma.Rules,
    yuma3=st.booleans(),
    liquid_alpha=st.none() | st.just(yuma.LiquidAlpha()),
    bonds_penalty=st.floats(min_value=0, max_value=1),
    max_validators=st.integers(min_value=1, max_value=8),
)


@given(subnets(), rules)
def test_incentive_and_dividends_are_shares(subnet: yuma.NeuronStates, given_rules: yuma.Rules) -> None:
    outcome = yuma.run(subnet, given_rules)
    for shares in (outcome.incentive, outcome.dividends):
        assert (shares >= 0).all()
        assert shares.sum() == pytest.approx(1) or not shares.any()


@given(subnets(), rules)
def test_never_more_is_paid_than_there_is(subnet: yuma.NeuronStates, given_rules: yuma.Rules) -> None:
    outcome = yuma.run(subnet, given_rules)
    assert (outcome.server_shares + outcome.validator_shares).sum() <= 1 + 1e-9


@given(subnets(), rules)
def test_bonds_fit_into_two_bytes(subnet: yuma.NeuronStates, given_rules: yuma.Rules) -> None:
    bonds = yuma.run(subnet, given_rules).bonds
    assert (bonds >= 0).all()
    assert (bonds <= 65535).all()
    assert (bonds == np.floor(bonds)).all()


@given(subnets(), rules, st.sampled_from([2.0, 1024.0, 0.5]))
def test_the_unit_of_stake_does_not_matter(subnet: yuma.NeuronStates, given_rules: yuma.Rules, factor: float) -> None:
    outcome = yuma.run(subnet, given_rules)
    scaled = yuma.run(replace(subnet, stake=subnet.stake * factor), given_rules)
    assert scaled.incentive == pytest.approx(outcome.incentive)
    assert scaled.dividends == pytest.approx(outcome.dividends)


@given(subnets(), rules)
def test_consensus_is_never_above_what_a_validator_said(subnet: yuma.NeuronStates, given_rules: yuma.Rules) -> None:
    outcome = yuma.run(subnet, given_rules)
    assert (outcome.consensus <= 1 + 1e-12).all()
    assert (outcome.consensus[subnet.weights.max(axis=0) == 0] == 0).all()
