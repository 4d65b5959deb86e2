"""Every number that led to a weight, out of the ledger of a validator that has really decided and sent."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import pytest
from sqlalchemy.orm import Session

from gradients.domain.evaluation import Placing
from gradients.domain.submission import Submission, SubmissionState
from gradients.domain.task import Hotkey, TaskId, TaskState, Window
from gradients.errors import Blame, SetupError
from gradients.scoring.account import BLOCKS_PER_DAY
from gradients.scoring.contest import SCHEDULED
from gradients.testing.clock import HandClock
from gradients.testing.fake_chain import FakeChain
from tests.unit.validator.market import Subnet, claimed, request_for
from validator.ledger import Ledger
from validator.ledger.outbox import OutboxState
from validator.ledger.placings import add_placings
from validator.ledger.submissions import add_submissions
from validator.pay.emission import Emission
from validator.pay.explain import Verdict, in_full, last_verdict, of_miner
from validator.pay.text import show_burning, show_miner, show_verdict

TEMPO = 20
NEWEST = 1_000_000
ALICE, BOB, CAROL = (Hotkey(name) for name in ("alice", "bob", "carol"))  # with uids 2, 3 and 4
Scenario = Callable[["Stand"], Awaitable[None]]


class Stand:
    """A validator's ledger and its emission on a chain in memory."""

    def __init__(self, ledger: Ledger, clock: HandClock) -> None:
        self.ledger, self.clock = ledger, clock
        self.subnet = Subnet(clock, FakeChain(tempo_blocks=TEMPO, weights_rate_limit_blocks=2))
        self.emission = Emission(ledger, self.subnet.gateway, self.subnet.view, clock)

    async def start(self) -> None:
        await self.subnet.start()
        for miner in (ALICE, BOB, CAROL):
            await self.subnet.chain.gateway(miner).register()
        await self.subnet.reach(TEMPO + 5)

    async def decide(self) -> None:
        """The epoch in force, decided and sent."""
        await self.subnet.view.start()
        await self.emission.step()

    async def next_epoch(self) -> None:
        await self.subnet.reach(self.subnet.chain.graph.block + TEMPO)

    def score(
        self,
        name: int,
        chances: Mapping[Hotkey, float],
        *,
        days_ago: float = 0.0,
        customer: str = SCHEDULED,
        factor: float = 1.0,
        owed: tuple[Hotkey, ...] = (),
    ) -> str:
        """One more scored task; whoever is `owed` failed by the validator's fault."""
        task_id = TaskId(f"instruct-{name:012x}")
        self.ledger.tasks.create(task_id, request_for(), customer=customer, salt=b"s" * 32)
        claim = claimed(self.ledger, TaskState.DRAFT)
        deadline = NEWEST - round(days_ago * BLOCKS_PER_DAY)
        task = replace(claim.task, window=Window(deadline - 10, deadline, deadline + 10))
        placings = [
            Placing(hotkey, 1 if chance else None, chance, chance * factor, f"chance {chance}", gain=0.1)
            for hotkey, chance in chances.items()
        ]
        placings += [
            Placing(hotkey, None, 0.0, 0.0, "evaluation_failed: it broke off", fault=Blame.OPERATOR) for hotkey in owed
        ]
        uids = {ALICE: 2, BOB: 3, CAROL: 4}
        submissions = [
            Submission(task_id, each.hotkey, uids[each.hotkey], SubmissionState.MEASURED) for each in placings
        ]

        def write(session: Session) -> None:
            add_submissions(session, submissions)
            add_placings(session, task, placings, rules_version=2, factor=factor, now=self.clock.now())

        self.ledger.tasks.advance(claim.lease, came_from=TaskState.DRAFT, to=TaskState.SCORED, also=write)
        return task_id

    def verdict(self) -> Verdict:
        return last_verdict(self.ledger)


@pytest.fixture
def stand(ledger: Ledger, clock: HandClock) -> Stand:
    return Stand(ledger, clock)


def _play(stand: Stand, scenario: Scenario) -> None:
    async def run() -> None:
        await stand.start()
        await scenario(stand)

    asyncio.run(run())


def test_the_parts_of_all_tasks_are_the_weights_that_were_sent(stand: Stand) -> None:
    async def scenario(stand: Stand) -> None:
        stand.score(1, {ALICE: 0.75, BOB: 0.25, CAROL: 0.0})
        stand.score(2, {BOB: 1.0}, days_ago=5.5, factor=3.0)
        stand.score(3, {CAROL: 0.0})
        await stand.decide()

    _play(stand, scenario)
    verdict = stand.verdict()
    # Of sizes 1 and 3/2 (half-way between the second day and the ninth) the first task has 1/2.5, the second the rest; the third,
    # which nobody won, has none.
    assert [(task.age_blocks, task.factor, round(task.weight, 9)) for task in verdict.tasks] == [
        (0, 1.0, 0.4),
        (0, 1.0, 0.0),
        (5.5 * BLOCKS_PER_DAY, 3.0, 0.6),
    ]
    assert verdict.shares == pytest.approx({ALICE: 0.3, BOB: 0.7})
    assert (verdict.rules_version, verdict.as_decided) == (2, True)
    assert verdict.call is not None
    assert verdict.call.state is OutboxState.DONE
    assert verdict.call.sent is not None
    assert (verdict.call.sent["uids"], verdict.call.sent["values"]) == ([2, 3], [round(65535 * 3 / 7), 65535])
    json.dumps(in_full(verdict))


def test_a_miners_weight_is_the_sum_of_its_tasks_parts(stand: Stand) -> None:
    async def scenario(stand: Stand) -> None:
        stand.score(1, {ALICE: 0.75, BOB: 0.25})
        stand.score(2, {ALICE: 0.0, BOB: 1.0}, customer="acme", days_ago=1.0)
        stand.score(3, {BOB: 1.0}, owed=(ALICE,))
        await stand.decide()

    _play(stand, scenario)
    told = of_miner(stand.verdict(), stand.ledger, ALICE)
    assert [(each.task.id[-1], each.task.customer, each.chance, each.result) for each in told.tasks] == [
        ("1", SCHEDULED, 0.75, "chance 0.75"),
        ("3", SCHEDULED, 0.0, "evaluation_failed: it broke off"),
        ("2", "acme", 0.0, "chance 0.0"),
    ]
    won, owed, lost = told.tasks
    assert "best with a chance of 75.0%" in won.why
    assert "the validator failed to measure" in owed.why
    assert (lost.part, lost.why) == (0.0, "")
    assert won.part > owed.part > 0
    assert math.fsum(each.part for each in told.tasks) == pytest.approx(told.share)
    assert told.sent is not None
    assert told.sent.uid == 2
    assert told.sent.part == pytest.approx(told.share, abs=1e-4)
    shown = told.in_full()
    assert shown["decided_share"] == pytest.approx(told.share)
    json.dumps(shown)


def test_what_was_scored_after_a_decision_plays_no_part_in_it(stand: Stand) -> None:
    async def scenario(stand: Stand) -> None:
        stand.score(1, {ALICE: 1.0}, days_ago=5.0)
        await stand.decide()
        stand.clock.time += 60.0
        stand.score(2, {BOB: 1.0})

    _play(stand, scenario)
    verdict = stand.verdict()
    assert [task.id[-1] for task in verdict.tasks] == ["1"]
    assert verdict.shares == {ALICE: 1.0}
    assert verdict.as_decided
    with pytest.raises(SetupError, match="bob has no result in the 1 tasks that count"):
        of_miner(verdict, stand.ledger, BOB)


def test_a_decision_that_is_repeated_is_explained_by_the_one_that_it_repeats(stand: Stand) -> None:
    async def scenario(stand: Stand) -> None:
        stand.score(1, {ALICE: 0.5, BOB: 0.5})
        await stand.decide()
        payload = stand.ledger.outbox.all()[0].payload
        stand.clock.time += 60.0
        stand.score(2, {CAROL: 0.0})  # nobody wins
        await stand.next_epoch()
        stand.ledger.outbox.decide("weights:again", payload, block=stand.subnet.chain.graph.block)

    _play(stand, scenario)
    verdict = stand.verdict()
    assert verdict.call is not None
    assert verdict.decided is not None
    assert (verdict.call.key, verdict.decided.key) == ("weights:again", f"weights:{TEMPO}")
    assert [task.id[-1] for task in verdict.tasks] == ["1"]
    assert verdict.as_decided


def test_sums_that_are_not_what_was_decided_are_told(stand: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    task = stand.score(1, {ALICE: 1.0})
    stand.ledger.outbox.decide("weights:100", {"shares": {ALICE: 0.9, BOB: 0.1}, "tasks": [task]}, block=105)
    verdict = stand.verdict()
    assert not verdict.as_decided
    show_verdict(verdict)
    shown = capsys.readouterr().out
    assert "NOT what was decided" in shown
    assert "weights:100: decided at block 105, pending" in shown


def test_before_any_decision_what_would_be_decided_is_shown(stand: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    stand.score(1, {ALICE: 1.0})
    verdict = stand.verdict()
    assert (verdict.call, verdict.shares, verdict.block) == (None, {ALICE: 1.0}, NEWEST)
    show_verdict(verdict)
    assert "Nothing is decided yet" in capsys.readouterr().out


def test_people_are_shown_the_same_numbers(
    stand: Stand, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    async def scenario(stand: Stand) -> None:
        stand.score(1, {ALICE: 0.75, BOB: 0.25})
        stand.score(2, {CAROL: 0.0}, days_ago=0.5)
        await stand.decide()

    _play(stand, scenario)
    show_verdict(stand.verdict())
    shown = capsys.readouterr().out
    for words in ("Rules: version 2", "alice… 75.0%, bob… 25.0%", "nobody won (1 took part)", "100.000%", "0.50"):
        assert words in shown
    assert "values [65535, 21845], version key 2" in shown
    show_miner(of_miner(stand.verdict(), stand.ledger, BOB))
    shown = capsys.readouterr().out
    assert "uid 3 has 21845 of 65535 in the row that was sent, 25.0000% of its sum" in shown
    show_burning({0.0: 0.1, 0.5: 0.05}, burned_now=0.25, part_now=0.0769, burn_share=0.5)
    shown = capsys.readouterr().out
    assert "25.00% of the incentive" in shown
    assert "-50.0%" in shown
