"""A miner learns its own result and nobody else's: the validator's axon, the miner's questions and journal, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from gradients.axon.auth import MetagraphPolicy
from gradients.axon.client import AxonClient, Peer
from gradients.axon.messages import Outcome
from gradients.axon.serve import serving
from gradients.axon.server import signed_app
from gradients.chain.view import ChainView
from gradients.domain.evaluation import Measurement, Metric
from gradients.domain.failure import Failure
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import Hotkey, TaskState
from gradients.errors import Blame, PeerRefused, PeerUnreachable
from gradients.testing.axons import keypair_of, warm_nonces
from gradients.testing.clock import HandClock
from miner.journal import Journal, Record
from miner.outcomes import Outcomes
from tests.unit.miner.fakes import start
from tests.unit.validator.market import HOST, TASK, WINDOW, StandIn, Subnet, assigned, claimed, collected
from validator.axon_app import add_outcome_route
from validator.ledger import Ledger
from validator.stages.score import ScoreStage

METRIC = Metric("completion cross-entropy", "nats/token", 1, "lower")
ALICE, BOB, CAROL = (Hotkey(keypair_of(name).ss58_address) for name in ("alice", "bob", "carol"))
PATIENCE_BLOCKS = 15
PATH = f"/v1/tasks/{TASK}/outcome"


class Market:
    """A validator whose axon answers, and miners that ask."""

    def __init__(self, ledger: Ledger, clock: HandClock, folder: Path) -> None:
        self.ledger, self.clock, self.folder = ledger, clock, folder
        self.subnet = Subnet(clock)
        self.clients: list[AxonClient] = []

    @contextlib.asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """The validator's axon, at the address that stands on chain."""
        keypair, policy = self.subnet.keypair, MetagraphPolicy(self.subnet.view.metagraph)
        app = signed_app(keypair=keypair, policy=policy, nonces=warm_nonces())
        add_outcome_route(app, ledger=self.ledger)
        async with serving(app, HOST, 0) as address:
            await self.subnet.gateway.publish_axon(address)
            await self.subnet.view.start()
            self.peer = Peer(self.subnet.gateway.hotkey, address)
            yield
            for client in self.clients:
                await client.close()

    async def ask(self, name: str) -> Outcome:
        """The answer to a question of this hotkey."""
        self.clients.append(AxonClient(keypair_of(name), allow_private=True))
        return await self.clients[-1].get(self.peer, PATH, answer=Outcome)

    def measured(self, values: Mapping[str, float | Failure]) -> None:
        """The task in MEASURED, with 50 rows near each value; the base has 3."""
        collected(self.ledger, list(values))
        lease = claimed(self.ledger, TaskState.COLLECTED).lease
        everybody: dict[str, float | Failure] = {BASE_ENTRANT: 3.0, **values}
        for entrant, value in everybody.items():
            if isinstance(value, Failure):
                self.ledger.submissions.failed(lease, entrant, value)
                continue
            noise = np.random.default_rng(round(value * 100)).standard_normal(50) / 100
            rows = tuple(map(float, value + noise - noise.mean()))
            self.ledger.submissions.measured(
                lease, Measurement(entrant, METRIC, value=value, stderr=0.01, per_row=rows)
            )
        self.ledger.tasks.advance(lease, came_from=TaskState.COLLECTED, to=TaskState.MEASURED)

    async def score(self) -> None:
        await self.subnet.reach(WINDOW.deadline_block + 9)
        await ScoreStage(self.ledger, self.subnet.gateway, self.clock).run(claimed(self.ledger, TaskState.MEASURED))

    def journal(self) -> Journal:
        """Alice's, as a restart of her miner finds it."""
        return Journal(self.folder / "alice")

    def handed_in(self) -> None:
        """Alice's miner has committed to a model for the task."""
        begun = start(TASK, deadline_block=WINDOW.deadline_block, reveal_until_block=WINDOW.reveal_until_block)
        record = Record(start=begun, validator=self.subnet.gateway.hotkey, accepted_at=1.0, salt="5a" * 32)
        self.journal().write(record.model_copy(update={"manifest": "{}", "committed_at_block": 12}))

    async def alice_asks(self) -> Outcome | None:
        """What her journal says after her miner, started anew, has asked once."""
        view = ChainView(self.subnet.chain.gateway(ALICE), self.clock)
        await view.start()
        client = AxonClient(keypair_of("alice"), allow_private=True)
        try:
            await Outcomes(self.journal(), view, client, patience_blocks=PATIENCE_BLOCKS).ask_all()
        finally:
            await client.close()
        record = self.journal().find(TASK)
        assert record is not None
        return record.outcome


@pytest.fixture
def market(ledger: Ledger, clock: HandClock, tmp_path: Path) -> Market:
    return Market(ledger, clock, tmp_path)


async def _start(market: Market) -> None:
    await market.subnet.start(StandIn("alice"), StandIn("bob"), StandIn("carol"))


def test_each_miner_is_told_its_own_result(market: Market) -> None:
    broken = Failure(Blame.MINER, "tensor_not_finite", "NaN")
    market.measured({ALICE: 2.0, BOB: broken})

    async def scenario() -> None:
        await _start(market)
        async with market.answering():
            await market.score()
            alice, bob = await market.ask("alice"), await market.ask("bob")
        assert (alice.task_id, alice.state, alice.metric, alice.unit) == (TASK, "scored", METRIC.name, METRIC.unit)
        assert (alice.base_loss, alice.loss, alice.stderr) == (3.0, 2.0, 0.01)
        assert alice.gain == pytest.approx(1 / 3)
        assert (alice.rank, alice.ranked, alice.chance, alice.prize, alice.share) == (1, 1, 1.0, 1.0, None)
        assert "best with a chance of 100.0%" in alice.reason
        assert (bob.loss, bob.gain, bob.rank, bob.chance, bob.prize) == (None, None, None, 0.0, 0.0)
        assert bob.reason == "tensor_not_finite: NaN"

    asyncio.run(scenario())


def test_the_share_of_the_weights_is_told_once_they_count_the_task(market: Market) -> None:
    market.measured({ALICE: 2.0, BOB: 3.0})

    async def scenario() -> None:
        await _start(market)
        async with market.answering():
            await market.score()
            market.ledger.outbox.decide("weights:0", {"shares": {CAROL: 1.0}, "tasks": ["another"]}, block=1)
            before = await market.ask("alice")
            market.ledger.outbox.decide("weights:20", {"shares": {ALICE: 0.4, CAROL: 0.6}, "tasks": [TASK]}, block=21)
            after, bobs = await market.ask("alice"), await market.ask("bob")
        assert (before.share, after.share, bobs.share) == (None, 0.4, 0.0)

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["carol", "stranger"])
def test_whoever_took_no_part_gets_nothing(market: Market, name: str) -> None:
    market.measured({ALICE: 2.0, BOB: 2.5})

    async def scenario() -> None:
        await _start(market)
        async with market.answering():
            await market.score()
            with pytest.raises(PeerRefused) as caught:
                await market.ask(name)
        assert caught.value.code == ("not_found" if name == "carol" else "not_registered")

    asyncio.run(scenario())


def test_nobody_is_told_anything_before_the_task_is_scored(market: Market) -> None:
    market.measured({ALICE: 2.0})

    async def scenario() -> None:
        await _start(market)
        async with market.answering():
            with pytest.raises(PeerRefused) as caught:
                await market.ask("alice")
        assert caught.value.code == "not_scored"

    asyncio.run(scenario())


def test_the_miners_of_a_task_that_failed_are_told_why(market: Market) -> None:
    assigned(market.ledger, [ALICE])
    lease = claimed(market.ledger, TaskState.ASSIGNED).lease
    failure = Failure(Blame.OPERATOR, "internal", "The disk is full")
    market.ledger.tasks.advance(lease, came_from=TaskState.ASSIGNED, to=TaskState.FAILED, failure=failure)

    async def scenario() -> None:
        await _start(market)
        async with market.answering():
            assert await market.ask("alice") == Outcome(task_id=TASK, state="failed", reason="The disk is full")

    asyncio.run(scenario())


def test_a_miner_asks_until_it_has_all_and_keeps_it_across_restarts_of_both(market: Market) -> None:
    market.measured({ALICE: 2.0})

    async def scenario() -> None:
        await _start(market)
        market.handed_in()
        async with market.answering():
            await market.subnet.reach(WINDOW.deadline_block + 1)
            assert await market.alice_asks() is None  # not scored
            await market.score()
        assert await market.alice_asks() is None  # the validator is away
        with pytest.raises(PeerUnreachable):
            await market.ask("alice")
        async with market.answering():
            scored = await market.alice_asks()
            assert scored is not None
            assert (scored.rank, scored.share) == (1, None)
            market.ledger.outbox.decide("weights:20", {"shares": {ALICE: 1.0}, "tasks": [TASK]}, block=21)
            assert await market.alice_asks() == scored.model_copy(update={"share": 1.0})
        assert await market.alice_asks() == scored.model_copy(update={"share": 1.0})  # nothing more is asked

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "changes",
    [
        {"committed_at_block": None, "failure": "submission_late: too late"},
        {"start": start(TASK, deadline_block=10_000, reveal_until_block=10_100)},
        {"start": start(TASK, deadline_block=1, reveal_until_block=WINDOW.deadline_block - PATIENCE_BLOCKS)},
    ],
    ids=["never handed in", "deadline still to come", "nobody answers any more"],
)
def test_no_question_without_an_answer_to_come(market: Market, changes: dict[str, object]) -> None:
    market.measured({ALICE: 2.0})

    async def scenario() -> None:
        await _start(market)
        market.handed_in()
        async with market.answering():
            await market.score()
            market.journal().change(TASK, **changes)
            assert await market.alice_asks() is None

    asyncio.run(scenario())
