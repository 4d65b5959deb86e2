"""Which rules are in force, and from shares to the weights of uids."""

from __future__ import annotations

import pytest

from gradients.domain.chain import Metagraph, Neuron
from gradients.domain.task import Hotkey
from gradients.scoring.contest import Part
from gradients.scoring.rules import CHANCE, PAPER, SCHEDULE, Since, rules_at, rules_of, shares_of
from gradients.scoring.weights import weights_by_uid


def test_the_rules_in_force_are_found_by_block() -> None:
    schedule = (Since(0, PAPER), Since(100, CHANCE))
    assert [rules_at(block, schedule).version for block in (0, 99, 100, 10**9)] == [1, 1, 2, 2]


def test_every_block_has_rules_and_versions_only_grow() -> None:
    assert SCHEDULE[0].block == 0
    assert [since.block for since in SCHEDULE] == sorted({since.block for since in SCHEDULE})
    versions = [since.rules.version for since in SCHEDULE]
    assert versions == sorted(set(versions))


def test_a_version_is_found_by_its_number() -> None:
    assert (rules_of(1), rules_of(2)) == (PAPER, CHANCE)
    with pytest.raises(ValueError, match="Version 3 of the rules is not known here"):
        rules_of(3)


def test_parts_add_up_by_miner() -> None:
    parts = [Part(Hotkey("a"), 0.2, "one", ""), Part(Hotkey("b"), 0.1, "one", ""), Part(Hotkey("a"), 0.1, "two", "")]
    assert shares_of(parts) == pytest.approx({"a": 0.75, "b": 0.25})
    assert shares_of([]) == shares_of([Part(Hotkey("a"), 0.0, "one", "")]) == {}


def _metagraph(*hotkeys: str) -> Metagraph:
    neurons = tuple(
        Neuron(
            uid=uid,
            hotkey=Hotkey(hotkey),
            coldkey="c",
            axon=None,
            validator_permit=False,
            stake_alpha=0.0,
            incentive=0.0,
            dividends=0.0,
            emission_alpha=0.0,
            last_update_block=0,
            registered_at_block=0,
        )
        for uid, hotkey in enumerate(hotkeys)
    )
    return Metagraph(
        netuid=1,
        block=1,
        tempo_blocks=10,
        last_epoch_block=0,
        neurons=neurons,
        owner_hotkey=Hotkey("owner"),
        weights_version=0,
        weights_rate_limit_blocks=0,
        commit_reveal=False,
    )


def test_weights_go_to_the_uids_that_are_registered_now() -> None:
    given_shares = {Hotkey("a"): 0.6, Hotkey("gone"): 0.2, Hotkey("b"): 0.2}
    assert weights_by_uid(given_shares, _metagraph("owner", "b", "a")) == pytest.approx({1: 0.25, 2: 0.75})


def test_weight_that_nobody_earned_is_burned_by_the_owner() -> None:
    assert weights_by_uid({}, _metagraph("a", "owner")) == {1: 1.0}
    assert weights_by_uid({}, _metagraph("a")) == {}
