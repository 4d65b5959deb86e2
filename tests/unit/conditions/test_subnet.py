"""The five conditions that a subnet can take from a running daemon, on a chain in memory: each is seen with the next metagraph."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest
from structlog.testing import capture_logs

from gradients.chain.view import ChainView
from gradients.conditions.axon import MOST_AN_HOUR, OwnAxon
from gradients.conditions.subnet import Chain, Subnet, stake
from gradients.config import ChainSettings, WalletSettings
from gradients.doctor.findings import Finding
from gradients.doctor.subnet import Role
from gradients.domain.chain import AxonAddress, Metagraph, Neuron
from gradients.errors import ChainUnreachable
from gradients.testing.axons import metagraph_of, neuron_of
from gradients.testing.clock import HandClock
from gradients.testing.fake_chain import FakeChain, FakeGateway

OURS, THEIRS = AxonAddress("127.0.0.2", 8091), AxonAddress("127.0.0.2", 8555)
BLOCK_SECONDS = 12.0
REFRESH_SECONDS = 30.0


@dataclass
class Stand:
    """A daemon of a role that has just started, and its chain."""

    chain: FakeChain
    clock: HandClock
    gateway: FakeGateway
    view: ChainView
    subnet: Subnet
    heads: Chain

    @classmethod
    async def begin(cls, name: str) -> Stand:
        clock = HandClock()
        chain = FakeChain(block_seconds=BLOCK_SECONDS, clock=clock)
        gateway = chain.gateway("ours")
        await gateway.register()
        await gateway.publish_axon(OURS)
        view = ChainView(gateway, clock, refresh_seconds=REFRESH_SECONDS)
        role = Role(name, WalletSettings(name="own"), ChainSettings(network="test"), gateway.hotkey, version_key=2)
        subnet = Subnet(gateway, view, clock, role, OwnAxon(gateway, view, clock, OURS), BLOCK_SECONDS)
        stand = cls(chain, clock, gateway, view, subnet, Chain(view, "test", BLOCK_SECONDS, REFRESH_SECONDS))
        stand.change(validator_permit=name == "validator", stake_alpha=100.0)
        await view.start()
        return stand

    @property
    def neuron(self) -> Neuron:
        neuron = self.chain.graph.by_hotkey(self.gateway.hotkey)
        assert neuron is not None
        return neuron

    def change(self, **changes: object) -> None:
        self.chain.change(replace(self.neuron, **changes))  # type: ignore[arg-type]

    async def sees_blocks(self) -> None:
        """The daemon hears of the newest block, and can read no metagraph."""
        self.chain.outage = ChainUnreachable("Silence")
        following = asyncio.create_task(self.view.follow())
        await self.view.wait_for_block(self.chain.graph.block)
        following.cancel()

    async def missing(self) -> dict[str, Finding]:
        """What a look at the next metagraph misses."""
        await self.view.refresh()
        return {each.name: each for each in await self.subnet.look() if each.level == "missing"}


def run(name: str, scenario: Callable[[Stand], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario(await Stand.begin(name))

    asyncio.run(main())


@pytest.mark.parametrize("name", ["validator", "miner"])
def test_nothing_is_missing_as_long_as_nothing_changes(name: str) -> None:
    async def scenario(stand: Stand) -> None:
        assert await stand.missing() == {}
        [heads] = await stand.heads.look()
        assert heads.level == "ok"

    run(name, scenario)


@pytest.mark.parametrize("name", ["validator", "miner"])
def test_an_axon_that_another_process_took_is_published_again_loudly(name: str) -> None:
    async def scenario(stand: Stand) -> None:
        await stand.gateway.publish_axon(THEIRS)
        with capture_logs() as said:
            missing = await stand.missing()
        assert THEIRS.url() in missing["axon"].found
        assert "end the other process" in missing["axon"].advice
        [taken, published] = said
        assert (taken["event"], taken["log_level"], taken["stands"]) == ("axon_taken_over", "warning", THEIRS.url())
        assert (published["event"], published["url"]) == ("axon_published", OURS.url())
        assert stand.neuron.axon == OURS
        assert await stand.missing() == {}

    run(name, scenario)


def test_the_look_that_publishes_again_brings_on_the_next_one() -> None:
    async def scenario(stand: Stand) -> None:
        await stand.gateway.publish_axon(THEIRS)
        await stand.view.refresh()
        readings = stand.view.readings
        await stand.subnet.look()
        assert stand.view.readings == readings + 1

    run("miner", scenario)


def test_two_that_insist_on_one_hotkey_do_not_fill_blocks() -> None:
    """Ours goes out so many times within an hour, and again when the first of them is an hour old."""

    async def scenario(stand: Stand) -> None:
        async def taken() -> dict[str, Finding]:
            await stand.gateway.publish_axon(THEIRS)
            return await stand.missing()

        for _ in range(MOST_AN_HOUR):
            await taken()
            assert stand.neuron.axon == OURS
            stand.clock.time += 60
        assert "no more until that hour is over" in (await taken())["axon"].found
        readings = stand.view.readings
        await stand.subnet.look()
        assert stand.view.readings == readings  # or look after look would follow without a rest
        assert stand.neuron.axon == THEIRS
        stand.clock.time += 3600 - 60 * MOST_AN_HOUR
        await taken()
        assert stand.neuron.axon == OURS

    run("miner", scenario)


def test_an_axon_that_cannot_be_published_again_is_tried_with_the_next_metagraph() -> None:
    async def scenario(stand: Stand) -> None:
        await stand.gateway.publish_axon(THEIRS)
        await stand.view.refresh()
        stand.chain.outage = ChainUnreachable("The node is gone")
        finding = await stand.subnet.axon.look(stand.neuron)
        assert "publishing ours failed: The node is gone" in finding.found
        stand.chain.outage = None
        await stand.missing()
        assert stand.neuron.axon == OURS

    run("miner", scenario)


def test_a_seat_that_was_lost_is_missing_and_nothing_else_that_hangs_on_it() -> None:
    async def scenario(stand: Stand) -> None:
        stand.change(hotkey="a newcomer's")
        missing = await stand.missing()
        assert missing.keys() == {"registered"}
        assert "gradients register -w own" in missing["registered"].advice

    run("validator", scenario)


def test_a_permit_that_was_lost_is_missing() -> None:
    async def scenario(stand: Stand) -> None:
        stand.change(validator_permit=False)
        assert (await stand.missing()).keys() == {"permit"}

    run("validator", scenario)


def test_stake_below_what_the_chain_asks_of_weights_is_missing() -> None:
    async def scenario(stand: Stand) -> None:
        stand.chain.stake_threshold_alpha = 100.5
        missing = await stand.missing()
        assert missing.keys() == {"stake"}
        assert missing["stake"].found == "100.0 alpha, and the chain asks 100.5 of who sets weights"

    run("validator", scenario)


def test_a_subnets_owner_sets_weights_without_stake() -> None:
    owner = neuron_of("owner", uid=0)
    graph: Metagraph = replace(metagraph_of(owner), owner_hotkey=owner.hotkey)
    assert stake(graph, owner, 1000.0).level == "ok"
    assert stake(graph, neuron_of("other", uid=1), 1000.0).level == "missing"


@pytest.mark.parametrize(("seconds", "level"), [(70.0, "ok"), (70.1, "missing")])  # 10 s, and 5 blocks of 12 s
def test_a_chain_without_new_blocks_is_missing_though_nobody_can_be_asked(seconds: float, level: str) -> None:
    async def scenario(stand: Stand) -> None:
        stand.chain.outage = ChainUnreachable("Silence")
        stand.clock.time += seconds
        [found] = await stand.heads.look()
        assert found.level == level

    run("miner", scenario)


@pytest.mark.parametrize(("seconds", "level"), [(160.0, "ok"), (160.1, "missing")])  # three of 30 s missed, and 70 s
def test_a_chain_whose_metagraph_cannot_be_read_is_missing_though_blocks_come(seconds: float, level: str) -> None:
    async def scenario(stand: Stand) -> None:
        stand.clock.time += seconds
        await stand.chain.advance()
        await stand.sees_blocks()
        [found] = await stand.heads.look()
        assert (found.level, "metagraph" in found.found) == (level, True)

    run("miner", scenario)


def test_a_clock_that_is_off_is_missing_and_a_chain_that_stands_still_says_nothing_of_it() -> None:
    async def scenario(stand: Stand) -> None:
        stand.chain.author = HandClock(stand.clock.time + 40)
        assert (await stand.missing()).keys() == {"clock"}
        stand.clock.time += 100
        assert await stand.missing() == {}

    run("miner", scenario)
