"""How a decided epoch is sent: the row within the subnet's limits, when, with which version, and what is said and kept of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace

import pytest
import structlog
from structlog.testing import capture_logs

from gradients.domain.chain import Metagraph, Neuron
from gradients.domain.task import Hotkey
from gradients.scoring.limits import Row, Unfit, row_for
from gradients.testing.clock import HandClock
from gradients.testing.fake_chain import OWNER, FakeChain
from tests.unit.validator.emitting import TEMPO, Emitting
from tests.unit.validator.market import Subnet
from validator.ledger import Ledger
from validator.ledger.outbox import OutboxState, Outgoing
from validator.pay.emission import AT_ONCE, KEY_PREFIX, Emission
from validator.pay.weights import closing_block, due_block, lifetime_of, must_speak
from validator.settings import EmissionSettings

VERSION = 7
Scenario = Callable[["Stand"], Awaitable[None]]


class Stand(Emitting):
    """A validator that has decided what a test says."""

    miners = ("alice", "bob", "carol", "dave", "erin")

    def __init__(self, ledger: Ledger, clock: HandClock, settings: EmissionSettings, **limits: float) -> None:
        self.ledger = ledger
        self.subnet = Subnet(clock, FakeChain(tempo_blocks=TEMPO))
        self.chain.set_limits(
            min_allowed_weights=int(limits.get("fewest", 1)), max_weight_limit=limits.get("largest", 1.0)
        )
        self.emission = Emission(
            ledger, self.subnet.gateway, self.subnet.view, clock, settings=settings, version_key=VERSION
        )

    async def epoch(self, shares: Mapping[str, float]) -> Outgoing:
        """Decide for the epoch in force, look at it once, and what has become of the call."""
        key = f"{KEY_PREFIX}{self.chain.graph.last_epoch_block}"
        self.ledger.outbox.decide(key, {"shares": dict(shares), "tasks": []}, block=self.chain.graph.block)
        await self.step()
        return self.newest()

    def newest(self) -> Outgoing:
        return self.ledger.outbox.all()[0]

    def set_version(self, version: int) -> None:
        self.chain.set_weights_version(version)


@pytest.fixture
def play(ledger: Ledger, clock: HandClock) -> Callable[..., None]:
    def player(scenario: Scenario, settings: EmissionSettings = AT_ONCE, **limits: float) -> None:
        async def main() -> None:
            stand = Stand(ledger, clock, settings, **limits)
            await stand.start()
            await scenario(stand)

        asyncio.run(main())

    return player


@pytest.fixture
def told() -> Iterator[list[structlog.typing.EventDict]]:
    with capture_logs() as logs:
        yield logs


def warnings(logs: list[structlog.typing.EventDict], event: str) -> list[str]:
    return [str(line["problem"]) for line in logs if line["event"] == event and line["log_level"] == "warning"]


def test_the_ledger_keeps_exactly_what_went_to_the_chain(play: Callable[..., None]) -> None:
    async def scenario(stand: Stand) -> None:
        call = await stand.epoch({"alice": 0.6, "bob": 0.3, "left": 0.1})
        assert call.state is OutboxState.DONE
        assert call.sent == {
            "uids": [2, 3],
            "values": [65535, 32768],
            "limits": {"min_allowed_weights": 1, "max_weights_limit": 65535},
            "changes": {},
            "version_key": VERSION,
        }
        total = 65535 + 32768
        assert stand.chain.weights[1] == pytest.approx({2: 65535 / total, 3: 32768 / total}, abs=1e-12)

    play(scenario)


def test_a_validator_gives_itself_nothing(play: Callable[..., None]) -> None:
    async def scenario(stand: Stand) -> None:
        call = await stand.epoch({stand.subnet.gateway.hotkey: 0.5, "bob": 0.5})
        assert stand.chain.weights[1] == {3: 1.0}
        assert call.sent is not None
        assert call.sent["changes"] == {"left_out": [1]}

    play(scenario)


def test_the_burn_share_is_the_owners_setting(play: Callable[..., None]) -> None:
    async def scenario(stand: Stand) -> None:
        call = await stand.epoch({"alice": 1.0})
        assert stand.chain.weights[1] == pytest.approx({0: 0.25, 2: 0.75}, abs=1e-5)
        assert call.sent is not None
        assert call.sent["changes"] == {"burned": 0.25}

    play(scenario, EmissionSettings(spread=0.0, burn_share=0.25))


def test_weights_land_on_a_subnet_with_a_minimum_of_five_and_a_maximum_of_three_tenths(
    play: Callable[..., None], told: list[structlog.typing.EventDict]
) -> None:
    async def scenario(stand: Stand) -> None:
        steep, even = {"alice": 0.94, "bob": 0.03, "carol": 0.03}, dict.fromkeys(stand.miners[:4], 0.25)
        for shares in (steep, even, steep, even, steep):
            call = await stand.epoch(shares)
            assert call.state is OutboxState.DONE
            await stand.blocks(TEMPO)
        assert stand.chain.weights[1] == pytest.approx({2: 0.3, 3: 0.3, 4: 0.3, 5: 0.05, 6: 0.05}, abs=1e-4)
        assert call.sent is not None
        assert call.sent["changes"] == {"clipped": [2, 3, 4], "spread": [5, 6]}

    play(scenario, fewest=5, largest=0.3)
    assert warnings(told, "weights_bent") == [
        f"The subnet's limits (at least 5 uids, none above 30.00%) change the shares: {bent}"
        for bent in ("clipped, spread", "padded")
    ]


def test_what_a_subnet_demands_in_vain_is_said_once_and_sent_when_it_is_met(
    play: Callable[..., None], told: list[structlog.typing.EventDict]
) -> None:
    demand = "The subnet demands weights on 9 uids or more, and there are 6 besides our own"

    async def scenario(stand: Stand) -> None:
        call = await stand.epoch({"alice": 1.0})
        await stand.blocks(3)
        assert (stand.newest().state, stand.newest().problem) == (OutboxState.PENDING, demand)
        await stand.blocks(TEMPO)
        dropped = stand.newest()
        assert (dropped.key, dropped.state, dropped.problem) == (call.key, OutboxState.DROPPED, demand)
        await stand.epoch({"alice": 1.0})
        stand.chain.set_limits(min_allowed_weights=2, max_weight_limit=1.0)
        await stand.blocks(1)
        assert stand.newest().state is OutboxState.DONE

    play(scenario, fewest=9)
    assert warnings(told, "weights_held_back") == [demand]
    assert warnings(told, "weights_dropped") == []


def test_a_subnet_that_asks_for_newer_rules_gets_nothing_and_it_is_said_once(
    play: Callable[..., None], told: list[structlog.typing.EventDict]
) -> None:
    async def scenario(stand: Stand) -> None:
        stand.set_version(VERSION + 1)
        await stand.epoch({"alice": 1.0})
        await stand.blocks(2 * TEMPO)
        await stand.epoch({"alice": 1.0})
        assert stand.chain.weights == {}
        stand.set_version(VERSION)
        await stand.blocks(1)
        assert stand.newest().state is OutboxState.DONE
        stand.set_version(VERSION + 2)
        await stand.blocks(TEMPO)
        await stand.epoch({"alice": 1.0})

    play(scenario)
    assert warnings(told, "weights_held_back") == [
        f"The subnet asks for version {VERSION + ahead} of the rules, and this validator knows {VERSION}: update it"
        for ahead in (1, 2)
    ]


def test_our_own_version_is_sent_and_not_the_chains(play: Callable[..., None]) -> None:
    async def scenario(stand: Stand) -> None:
        stand.set_version(VERSION - 3)
        call = await stand.epoch({"alice": 1.0})
        assert call.state is OutboxState.DONE
        assert call.sent is not None
        assert call.sent["version_key"] == VERSION

    play(scenario)


def test_a_dry_run_records_what_it_would_send_and_sends_nothing(play: Callable[..., None]) -> None:
    async def scenario(stand: Stand) -> None:
        before = stand.chain.graph.block
        call = await stand.epoch({"alice": 0.5, "bob": 0.5})
        assert (call.state, call.problem, call.sent_at_block) == (OutboxState.DROPPED, "dry run", None)
        assert call.sent is not None
        assert (call.sent["uids"], call.sent["values"]) == ([2, 3], [65535, 65535])
        await stand.blocks(3)
        assert stand.chain.weights == {}
        assert stand.chain.graph.block == before + 3

    play(scenario, EmissionSettings(dry_run=True, spread=0.0))


def test_a_call_waits_for_its_block_of_the_epoch(play: Callable[..., None]) -> None:
    async def scenario(stand: Stand) -> None:
        await stand.subnet.reach(2 * TEMPO)
        graph = stand.chain.graph
        due = due_block(graph, stand.subnet.gateway.hotkey, spread=1.0)
        while stand.chain.graph.block < due:
            assert (await stand.epoch({"alice": 1.0})).state is OutboxState.PENDING
            await stand.chain.advance()
        assert (await stand.epoch({"alice": 1.0})).state is OutboxState.DONE

    play(scenario, EmissionSettings(spread=1.0))


def test_a_call_is_not_repeated_on_an_old_picture_of_the_chain(play: Callable[..., None]) -> None:
    """The answer was lost, and after an outage the new block is known before the metagraph that shows the call's effect."""

    async def scenario(stand: Stand) -> None:
        await stand.subnet.reach(2 * TEMPO)
        stand.chain.lost_answers = 1
        assert (await stand.epoch({"alice": 1.0})).state is OutboxState.SENT
        following = asyncio.create_task(stand.subnet.view.follow())
        await stand.chain.advance(13)  # more than the call's lifetime of 8, and what it may be late
        newest = await stand.subnet.view.wait_for_block(stand.chain.graph.block)
        old = stand.subnet.view.metagraph()
        assert old.block < newest < closing_block(old)
        await stand.emission.step()
        assert stand.chain.graph.block == newest  # a call would have made a block of its own
        await stand.emission.step()
        assert stand.newest().state is OutboxState.DONE
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    play(scenario)


def graph(*, tempo_blocks: int = 360, last_epoch_block: int = 3600) -> Metagraph:
    chain = FakeChain(tempo_blocks=tempo_blocks)
    return replace(chain.graph, last_epoch_block=last_epoch_block, block=last_epoch_block)


def test_validators_are_spread_over_the_part_of_the_epoch_and_each_moves_with_every_epoch() -> None:
    blocks = [due_block(graph(), Hotkey(str(number)), spread=0.5) for number in range(2000)]
    assert min(blocks) == 3600
    assert max(blocks) == 3600 + 178  # half of 357, rounded down
    counts = [blocks.count(block) for block in range(3600, 3779)]
    assert max(counts) < 30  # 11.2 are expected; 5.6 standard deviations more are 30
    ours = {
        due_block(graph(last_epoch_block=number), Hotkey("us"), spread=0.5) - number for number in range(0, 9000, 360)
    }
    assert len(ours) > 15
    assert {due_block(graph(), Hotkey(str(number)), spread=0.0) for number in range(9)} == {3600}


@pytest.mark.parametrize(("tempo", "closing"), [(360, 357), (20, 17), (8, 6), (1, 1)])
def test_the_last_blocks_of_an_epoch_are_closed(tempo: int, closing: int) -> None:
    assert closing_block(graph(tempo_blocks=tempo, last_epoch_block=0)) == closing


@pytest.mark.parametrize(("tempo", "lifetime"), [(360, 64), (50_400, 128), (60, 16), (20, 8), (5, 8)])
def test_a_call_that_is_lost_can_be_repeated_in_its_epoch(tempo: int, lifetime: int) -> None:
    assert lifetime_of(graph(tempo_blocks=tempo)) == lifetime


def test_a_validator_must_speak_before_its_silence_counts_as_absence() -> None:
    """Cutoff 5,000, tempo 360: what stands since 2,000 counts until 7,000. Said nothing until the end of the next epoch: too late."""
    quiet = graph(last_epoch_block=6280)
    neuron = Neuron(1, Hotkey("us"), "", None, True, 0.0, 0.0, 0.0, 0.0, 2000, 0)
    quiet = replace(quiet, neurons=(*quiet.neurons, neuron))
    assert not must_speak(quiet, Hotkey("us"))
    assert must_speak(replace(quiet, last_epoch_block=6281), Hotkey("us"))


def test_reserves_are_ordered_by_what_they_earned_then_by_seniority_and_validators_come_last() -> None:
    chain = FakeChain()
    for name in ("us", "validator", "old", "young", "earned", "paid"):
        chain.seat(Hotkey(name), coldkey="")
    neurons = {neuron.hotkey: neuron for neuron in chain.graph.neurons}
    chain.change(replace(neurons[Hotkey("validator")], validator_permit=True))
    chain.change(replace(neurons[Hotkey("earned")], incentive=0.1))
    padded = []
    for fewest in range(1, 7):
        chain.set_limits(min_allowed_weights=fewest, max_weight_limit=1.0)
        row = row_for({Hotkey("paid"): 1.0}, chain.graph, hotkey=Hotkey("us"), burn_share=0.0)
        assert isinstance(row, Row)
        padded = [chain.graph.neurons[uid].hotkey for uid in row.padded]
    assert padded == ["earned", "old", "young", "validator", OWNER]
    chain.set_limits(min_allowed_weights=7, max_weight_limit=1.0)
    assert isinstance(row_for({Hotkey("paid"): 1.0}, chain.graph, hotkey=Hotkey("us"), burn_share=0.0), Unfit)
