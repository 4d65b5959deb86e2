"""From points to weights on a chain: decided once an epoch, sent once, and read back after silence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from gradients.domain.evaluation import Placing
from gradients.domain.task import Hotkey, TaskId, TaskState, Window
from gradients.errors import ChainUnreachable
from gradients.scoring.account import BLOCKS_PER_DAY
from gradients.testing.clock import HandClock
from gradients.testing.fake_chain import FakeChain
from tests.unit.validator.emitting import TEMPO, Emitting
from tests.unit.validator.market import Subnet, claimed, draft
from validator.ledger import Ledger
from validator.ledger.outbox import OutboxState, Outgoing
from validator.ledger.placings import add_placings
from validator.pay.emission import REFUSED_REST_BLOCKS, Emission
from validator.pay.weights import CLOSING_BLOCKS

DEADLINE_BLOCK = 1_000_000
Scenario = Callable[["Stand"], Awaitable[None]]


class Stand(Emitting):
    """A validator's emission on a chain whose epochs are 20 blocks; alice has uid 2 and bob uid 3."""

    miners = ("alice", "bob")

    def __init__(
        self,
        ledger: Ledger,
        clock: HandClock,
        *,
        weights_rate_limit_blocks: int = 2,
        activity_cutoff_blocks: int = 5000,
    ) -> None:
        self.ledger, self.clock = ledger, clock
        self.subnet = Subnet(
            clock,
            FakeChain(
                tempo_blocks=TEMPO,
                weights_rate_limit_blocks=weights_rate_limit_blocks,
                activity_cutoff_blocks=activity_cutoff_blocks,
            ),
        )
        self.emission = Emission(ledger, self.subnet.gateway, self.subnet.view, clock)
        self._scored = 0

    def score(self, points: Mapping[str, float], *, days_ago: float = 0.0) -> None:
        """One more scored task."""
        self._scored += 1
        task_id = TaskId(f"instruct-{self._scored:012x}")
        draft(self.ledger, task_id=task_id)
        claim = claimed(self.ledger, TaskState.DRAFT)
        deadline = DEADLINE_BLOCK - round(days_ago * BLOCKS_PER_DAY)
        task = replace(claim.task, window=Window(deadline - 10, deadline, deadline + 10))
        placings = [Placing(Hotkey(hotkey), 1, number, number, "", gain=0.1) for hotkey, number in points.items()]
        self.ledger.tasks.advance(
            claim.lease,
            came_from=TaskState.DRAFT,
            to=TaskState.SCORED,
            also=lambda session: add_placings(
                session, task, placings, rules_version=2, factor=1.0, now=self.clock.now()
            ),
        )

    def count_as_just_set(self) -> None:
        """To the chain, the validator has set weights in this block, and may not again for a while."""
        neuron = self.chain.graph.by_hotkey(self.subnet.gateway.hotkey)
        assert neuron is not None
        self.chain.change(replace(neuron, last_update_block=self.chain.graph.block))

    def calls(self) -> list[Outgoing]:
        """Everything that was decided, oldest first."""
        return list(reversed(self.ledger.outbox.all()))

    def states(self) -> list[OutboxState]:
        return [call.state for call in self.calls()]

    @property
    def set_weights(self) -> Mapping[int, float]:
        """What stands on chain for the validator."""
        return self.chain.weights.get(1, {})


@pytest.fixture
def run(ledger: Ledger, clock: HandClock) -> Callable[[Scenario], None]:
    def runner(scenario: Scenario) -> None:
        async def main() -> None:
            stand = Stand(ledger, clock)
            await stand.start()
            await scenario(stand)

        asyncio.run(main())

    return runner


def test_nothing_is_set_before_anything_was_scored(run: Callable[[Scenario], None]) -> None:
    async def scenario(stand: Stand) -> None:
        await stand.blocks(TEMPO)
        assert stand.calls() == []
        assert stand.set_weights == {}

    run(scenario)


def test_points_become_weights_of_uids_and_a_receipt(run: Callable[[Scenario], None]) -> None:
    async def scenario(stand: Stand) -> None:
        stand.score({"alice": 0.75, "bob": 0.25})
        await stand.step()
        [call] = stand.calls()
        assert call.state is OutboxState.DONE
        assert call.receipt == {"block": stand.chain.graph.block, "reveal_round": None}
        assert call.payload["tasks"] == ["instruct-000000000001"]
        assert call.payload["shares"] == pytest.approx(dict(stand.emission.standing(stand.chain.graph.block)))
        assert stand.set_weights == pytest.approx({2: 0.75, 3: 0.25})
        assert stand.set_weights[2] > stand.set_weights[3]

    run(scenario)


def test_weights_are_set_once_an_epoch(run: Callable[[Scenario], None]) -> None:
    async def scenario(stand: Stand) -> None:
        for winner in ("alice", "bob", "alice", "bob"):
            stand.score({winner: 1.0})
            await stand.step()
            await stand.blocks(TEMPO)
        keys = [call.key for call in stand.calls()]
        assert len(keys) == len(set(keys)) == 4
        assert set(stand.states()) == {OutboxState.DONE}
        assert keys == sorted(keys, key=lambda key: int(key.removeprefix("weights:")))

    run(scenario)


def test_an_epoch_without_a_verdict_sends_nothing(run: Callable[[Scenario], None]) -> None:
    """What stands on chain goes on standing."""

    async def scenario(stand: Stand) -> None:
        stand.score({"alice": 1.0})
        await stand.step()
        await stand.blocks(5 * TEMPO)
        assert stand.states() == [OutboxState.DONE]
        assert stand.set_weights == {2: 1.0}

    run(scenario)


@pytest.mark.parametrize("verdict", ["the same", "nobody earned anything"])
def test_the_last_verdict_is_repeated_before_the_chain_takes_us_for_inactive(
    run: Callable[[Scenario], None], verdict: str
) -> None:
    async def scenario(patient: Stand) -> None:
        stand = Stand(patient.ledger, patient.clock, activity_cutoff_blocks=5 * TEMPO)
        await stand.start()
        stand.score({"alice": 0.5, "bob": 0.5})
        await stand.step()
        first = _last_update(stand)
        if verdict != "the same":
            stand.score({"alice": 0.0}, days_ago=-100.0)  # the window has gone on, and nothing in it was won
            assert stand.emission.standing(stand.chain.graph.block) == {}
        while len(stand.calls()) == 1:
            await stand.blocks(1)
            assert stand.chain.graph.block - first < 5 * TEMPO
        await stand.blocks(2)
        one, again = stand.calls()
        assert again.payload == one.payload == {"shares": {"alice": 0.5, "bob": 0.5}, "tasks": one.payload["tasks"]}
        assert stand.states() == [OutboxState.DONE] * 2
        assert _last_update(stand) - first > 2 * TEMPO

    run(scenario)


def test_nothing_is_said_when_nobody_has_ever_earned_anything(run: Callable[[Scenario], None]) -> None:
    """Giving it all to the owner would burn it, which costs the whole subnet."""

    async def scenario(stand: Stand) -> None:
        stand.score({"alice": 0.0})
        await stand.blocks(2 * TEMPO)
        assert stand.calls() == []

    run(scenario)


def test_new_points_count_from_the_next_epoch_on(run: Callable[[Scenario], None]) -> None:
    async def scenario(stand: Stand) -> None:
        stand.score({"alice": 1.0})
        await stand.step()
        stand.score({"bob": 1.0})
        await stand.blocks(3)
        assert stand.set_weights == {2: 1.0}
        await stand.blocks(TEMPO)
        assert stand.set_weights == pytest.approx({2: 0.5, 3: 0.5})

    run(scenario)


def test_points_outside_of_the_window_weigh_nothing(run: Callable[[Scenario], None]) -> None:
    async def scenario(stand: Stand) -> None:
        stand.score({"alice": 1.0}, days_ago=23.0)
        stand.score({"bob": 1.0}, days_ago=2.0)
        await stand.step()
        assert stand.set_weights == {3: 1.0}

    run(scenario)


def test_a_lost_answer_is_looked_up_and_not_sent_again(run: Callable[[Scenario], None]) -> None:
    async def scenario(stand: Stand) -> None:
        stand.score({"alice": 1.0})
        stand.chain.lost_answers = 1
        await stand.step()
        assert stand.states() == [OutboxState.SENT]
        included = stand.chain.graph.block
        assert stand.set_weights == {2: 1.0}
        await stand.blocks(1)
        assert stand.states() == [OutboxState.DONE]
        assert stand.calls()[0].receipt == {"block": included}
        assert _last_update(stand) == included

    run(scenario)


def test_a_call_that_a_crash_cut_off_after_it_was_marked_is_looked_up_first(run: Callable[[Scenario], None]) -> None:
    """The row says SENT and the chain shows nothing: it may still be included, so it is not sent twice in its era."""

    async def scenario(stand: Stand) -> None:
        stand.score({"alice": 1.0})
        graph = stand.chain.graph
        key = f"weights:{graph.last_epoch_block}"
        stand.ledger.outbox.decide(key, {"shares": {"alice": 1.0}, "tasks": []}, block=graph.block)
        [call] = stand.ledger.outbox.open()
        stand.ledger.outbox.mark_sent(call, block=graph.block)
        before = _last_update(stand)
        await stand.blocks(3)
        assert stand.states() == [OutboxState.SENT]
        assert _last_update(stand) == before
        await stand.blocks(TEMPO)
        assert stand.states() == [OutboxState.DROPPED, OutboxState.DONE]
        assert stand.calls()[0].problem == "its epoch is over"

    run(scenario)


def test_a_decision_that_a_crash_cut_off_is_sent(run: Callable[[Scenario], None]) -> None:
    async def scenario(stand: Stand) -> None:
        stand.score({"alice": 1.0})
        graph = stand.chain.graph
        stand.ledger.outbox.decide(
            f"weights:{graph.last_epoch_block}", {"shares": {"bob": 1.0}, "tasks": []}, block=graph.block
        )
        await stand.step()
        assert stand.states() == [OutboxState.DONE]
        assert stand.set_weights == {3: 1.0}  # as it was decided, whatever has been scored since

    run(scenario)


def test_a_refusal_that_may_pass_is_tried_again_in_the_same_epoch(run: Callable[[Scenario], None]) -> None:
    async def scenario(stand: Stand) -> None:
        stand.score({"alice": 1.0})
        stand.count_as_just_set()
        await stand.step()
        [call] = stand.calls()
        assert (call.state, call.problem.partition(":")[0]) == (OutboxState.PENDING, "rate_limited")
        before = stand.chain.graph.block
        await stand.blocks(REFUSED_REST_BLOCKS)
        assert stand.chain.graph.block == before + REFUSED_REST_BLOCKS  # a call would have made a block of its own
        await stand.blocks(1)
        assert stand.states() == [OutboxState.DONE]
        assert stand.set_weights == {2: 1.0}

    run(scenario)


def test_a_refusal_that_does_not_pass_is_why_the_call_is_dropped(run: Callable[[Scenario], None]) -> None:
    async def scenario(stand: Stand) -> None:
        stand.score({"alice": 1.0})
        limited = Stand(stand.ledger, stand.clock, weights_rate_limit_blocks=1000)
        await limited.start()
        await limited.blocks(TEMPO)
        assert limited.states()[0] is OutboxState.DROPPED
        assert "rate_limited" in limited.calls()[0].problem

    run(scenario)


def test_several_validators_on_one_ledger_make_a_call_once(run: Callable[[Scenario], None]) -> None:
    async def scenario(stand: Stand) -> None:
        stand.score({"alice": 1.0})
        before = stand.chain.graph.block
        await asyncio.gather(*(stand.step() for _ in range(5)))
        assert stand.chain.graph.block == before + 1
        assert stand.states() == [OutboxState.DONE]

    run(scenario)


def test_a_refusal_for_good_ends_the_call_and_the_next_epoch_tries_anew(run: Callable[[Scenario], None]) -> None:
    async def scenario(stand: Stand) -> None:
        stand.score({"alice": 1.0})
        neuron = stand.chain.graph.by_hotkey(stand.subnet.gateway.hotkey)
        assert neuron is not None

        stand.chain.change(replace(neuron, validator_permit=False))
        await stand.step()
        assert stand.states() == [OutboxState.DROPPED]
        assert "neuron_no_validator_permit" in stand.calls()[0].problem
        stand.chain.change(neuron)
        await stand.blocks(3)
        assert stand.states() == [OutboxState.DROPPED]
        await stand.blocks(TEMPO)
        assert stand.states() == [OutboxState.DROPPED, OutboxState.DONE]

    run(scenario)


def test_weights_that_the_chain_would_refuse_wait_until_nothing_stands_against_them(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(stand: Stand) -> None:
        obstacle = ["stake: 100.0 alpha, and the chain asks 1,000.0 of who sets weights"]
        stand.emission = replace(stand.emission, obstacle=lambda: obstacle[0])
        stand.score({"alice": 1.0})
        with capture_logs() as said:
            await stand.blocks(5)
        assert [(line["event"], line["problem"]) for line in said] == [("weights_held_back", obstacle[0])]
        assert (stand.states(), stand.calls()[0].sent_at_block) == ([OutboxState.PENDING], None)
        obstacle[0] = ""
        await stand.blocks(1)
        assert stand.states() == [OutboxState.DONE]

    run(scenario)


def test_no_call_goes_out_when_the_epoch_is_about_to_end(run: Callable[[Scenario], None]) -> None:
    """A call included after the epoch's end would count for the next one, which decides for itself."""

    async def scenario(stand: Stand) -> None:
        end = stand.chain.graph.last_epoch_block + TEMPO
        await stand.subnet.reach(end - CLOSING_BLOCKS)
        stand.score({"alice": 1.0})
        await stand.step()
        assert stand.states() == [OutboxState.PENDING]
        await stand.blocks(CLOSING_BLOCKS)
        assert stand.states() == [OutboxState.DROPPED, OutboxState.DONE]

    run(scenario)


def test_shares_of_hotkeys_that_left_go_to_those_that_stayed(run: Callable[[Scenario], None]) -> None:
    async def scenario(stand: Stand) -> None:
        stand.score({"alice": 0.5, "left the subnet": 0.5})
        await stand.step()
        assert stand.calls()[0].payload["shares"] == {"alice": 0.5, "left the subnet": 0.5}
        assert stand.set_weights == {2: 1.0}

    run(scenario)


def test_a_chain_that_is_down_is_no_end(run: Callable[[Scenario], None]) -> None:
    async def scenario(stand: Stand) -> None:
        stand.score({"alice": 1.0})
        loop = asyncio.create_task(stand.emission.run())
        following = asyncio.create_task(stand.subnet.view.follow())
        stand.chain.outage = ChainUnreachable("down")
        await _pass_blocks(stand, 2)
        stand.chain.outage = None
        async with asyncio.timeout(120):
            while OutboxState.DONE not in stand.states():
                await _pass_blocks(stand, 1)
        assert not loop.done()
        for task in (loop, following):
            task.cancel()
        await asyncio.gather(loop, following, return_exceptions=True)

    run(scenario)


async def _pass_blocks(stand: Stand, count: int) -> None:
    for _ in range(count):
        await stand.chain.advance()
        stand.clock.time += 60.0  # a metagraph of that age is read again
        await asyncio.sleep(0.05)


def _last_update(stand: Stand) -> int:
    neuron = stand.chain.graph.by_hotkey(stand.subnet.gateway.hotkey)
    assert neuron is not None
    return neuron.last_update_block
