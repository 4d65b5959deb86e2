"""What a doctor reads out of what the chain says: pure, so the figures are worked out in sight."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gradients.config import ChainSettings, WalletSettings
from gradients.doctor.subnet import Role, Seen, clock, membership, on_chain
from gradients.domain.chain import AxonAddress, Metagraph
from gradients.testing.axons import metagraph_of, neuron_of
from gradients.testing.clock import HandClock

HERE = AxonAddress("1.1.1.1", 8091)
OWNER = neuron_of("owner", uid=0, validator_permit=True, stake_alpha=1500.0)
OURS = neuron_of("ours", uid=1, stake_alpha=20.0, axon=HERE)
GRAPH = replace(metagraph_of(OWNER, OURS), last_epoch_block=90)  # at block 100, of 360 an epoch


def seen(graph: Metagraph = GRAPH) -> Seen:
    return Seen(graph, block_seconds=12.0, head_time=1000.0, price_tao=0.25)


def role(name: str, *, hotkey: str = OURS.hotkey, version_key: int | None = None) -> Role:
    wallet, chain = WalletSettings(name="own", hotkey="hot"), ChainSettings(network="test", netuid=1)
    return Role(name, wallet, chain, type(OURS.hotkey)(hotkey), version_key)


@pytest.mark.parametrize(
    ("now", "level"),
    [(998.0, "ok"), (997.9, "missing"), (1070.0, "ok"), (1070.1, "missing")],  # 10 s, and 5 blocks of 12 s
)
def test_a_clock_may_be_as_late_as_blocks_are_and_no_earlier_than_peers_take(now: float, level: str) -> None:
    assert clock(seen(), HandClock(now)).level == level


def test_a_hotkey_without_a_uid_is_told_the_command_and_its_price() -> None:
    (found,) = membership(seen(), role("miner", hotkey="5Nobody"))
    assert (found.name, found.level) == ("registered", "missing")
    assert "gradients register -w own -H hot -n test --netuid 1" in found.advice
    assert "it costs 0.25 TAO now" in found.advice


def test_a_validator_without_a_permit_is_told_the_least_stake_of_those_who_have_one_and_when_one_comes() -> None:
    permit = next(each for each in membership(seen(), role("validator")) if each.name == "permit")
    assert permit.level == "missing"
    assert permit.found == "none, with a stake of 20.0 alpha; the least of those who have one is 1,500.0"
    assert "the next one in 351 blocks (4,212 s)" in permit.advice  # 90 + 360 + 1 - 100


def test_a_miner_needs_no_permit() -> None:
    assert [each.name for each in membership(seen(), role("miner"))] == ["registered"]


@pytest.mark.parametrize(("wanted", "level"), [(2, "ok"), (3, "missing")])
def test_a_subnet_that_asks_for_newer_weights_locks_an_old_validator_out(wanted: int, level: str) -> None:
    graph = replace(GRAPH, weights_version=wanted)
    weights = next(each for each in membership(seen(graph), role("validator", version_key=2)) if each.name == "weights")
    assert weights.level == level


def test_another_address_on_chain_is_told() -> None:
    assert list(on_chain(seen(), role("miner"), HERE)) == []
    (found,) = on_chain(seen(), role("miner"), AxonAddress("1.1.1.1", 9000))
    assert (found.level, "http://1.1.1.1:8091 stands on chain" in found.found) == ("note", True)
    assert "two take the axon from each other" in found.advice
