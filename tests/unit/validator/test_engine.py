"""The step engine: what a lease, a fence and the blame of an error mean for a task."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from gradients.chain.view import ChainView
from gradients.clock import SystemClock
from gradients.domain.task import TaskId, TaskState
from gradients.errors import Blame, ChainUnreachable, DatasetInvalid, JobFailed, OutsideError, SubmissionRejected
from gradients.scoring.rules import PAPER
from gradients.testing.clock import HandClock
from gradients.testing.fake_chain import FakeChain
from tests.unit.validator.market import SALT, TASK, claimed, draft, found, request_for, running, until
from validator.engine import (
    LEASE_SECONDS,
    LONGEST_PATIENCE_SECONDS,
    MAX_ATTEMPTS,
    PATIENCE_SECONDS,
    Stage,
    StepEngine,
)
from validator.ledger import Ledger
from validator.ledger.lease import Claim
from validator.ledger.rows import TaskRow

OTHER = TaskId("instruct-ba9876543210")
NEVER = 3600.0  # seconds: longer than any test


class Steps:
    """A stage that does what it is told, one thing per run, and then moves the task on."""

    def __init__(self, ledger: Ledger, clock: HandClock, *errors: Exception) -> None:
        self._ledger = ledger
        self._clock = clock
        self._errors = list(errors)
        self.claims: list[Claim] = []
        self.times: list[float] = []

    async def run(self, claim: Claim) -> None:
        self.claims.append(claim)
        self.times.append(self._clock.now())
        if self._errors:
            raise self._errors.pop(0)
        self._ledger.tasks.advance(claim.lease, came_from=TaskState.DRAFT, to=TaskState.OPEN)


class Held:
    """A stage that waits in the middle of its work."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = False

    async def run(self, claim: Claim) -> None:
        self.begun.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        self._ledger.tasks.advance(claim.lease, came_from=TaskState.DRAFT, to=TaskState.OPEN)


def _engine(ledger: Ledger, stage: Stage, *, owner: str = "two", lease_seconds: float = LEASE_SECONDS) -> StepEngine:
    view = ChainView(FakeChain().gateway("validator"), SystemClock())
    return StepEngine(ledger, view, {TaskState.DRAFT: stage}, owner=owner, lease_seconds=lease_seconds)


def _sleeper(ledger: Ledger, stage: Stage) -> StepEngine:
    """An engine without a safety net: only a wake ends its sleep."""
    view = ChainView(FakeChain().gateway("validator"), SystemClock())
    return StepEngine(ledger, view, {TaskState.DRAFT: stage}, owner="two", poll_seconds=NEVER)


def _row(ledger: Ledger) -> TaskRow:
    with Session(ledger.engine) as session:
        return session.get_one(TaskRow, TASK)


def _rests(ledger: Ledger, clock: HandClock) -> bool:
    """Whether nobody works on the task, and nobody may before a later hour."""
    row = _row(ledger)
    return row.lease_owner is None and row.due_at > clock.now()


def test_a_due_task_is_done_once(ledger: Ledger, clock: HandClock) -> None:
    draft(ledger)
    stage = Steps(ledger, clock)

    async def scenario() -> None:
        async with running(_engine(ledger, stage)):
            await until(lambda: found(ledger).state is TaskState.OPEN)

    asyncio.run(scenario())
    assert [claim.attempts for claim in stage.claims] == [1]


def test_a_customer_with_slow_tasks_leaves_the_other_places_to_others(ledger: Ledger, clock: HandClock) -> None:
    begun = list[str]()

    class Slow:
        """A stage whose steps last as long as they are let."""

        async def run(self, claim: Claim) -> None:
            begun.append(claim.task.id)
            await asyncio.Event().wait()

    draft(ledger)
    draft(ledger, task_id=OTHER)
    theirs = ledger.tasks.create(TaskId("instruct-ffffffffffff"), request_for(), customer="others", salt=SALT)

    async def scenario() -> None:
        view = ChainView(FakeChain().gateway("validator"), SystemClock())
        states = (TaskState.DRAFT,)
        engine = StepEngine(
            ledger, view, {TaskState.DRAFT: Slow()}, owner="two", at_once={TaskState.DRAFT: 2}, one_per_customer=states
        )
        async with running(engine):
            await until(lambda: theirs.id in begun, each_time=engine.wake)

    asyncio.run(scenario())
    assert len(begun) == 2
    assert len({TASK, OTHER} & set(begun)) == 1


def test_no_step_is_begun_while_something_stands_against_all_of_its_kind(ledger: Ledger, clock: HandClock) -> None:
    draft(ledger)
    stage, obstacle, asked = Steps(ledger, clock), ["permit: none"], list[str]()

    def against() -> str:
        asked.append("")
        return obstacle[0]

    async def scenario() -> None:
        view = ChainView(FakeChain().gateway("validator"), SystemClock())
        engine = StepEngine(ledger, view, {TaskState.DRAFT: stage}, owner="two", obstacles={TaskState.DRAFT: against})
        async with running(engine):
            await until(lambda: len(asked) >= 3, each_time=engine.wake)
            assert stage.claims == []
            obstacle[0] = ""
            await until(lambda: found(ledger).state is TaskState.OPEN, each_time=engine.wake)

    asyncio.run(scenario())
    assert [claim.attempts for claim in stage.claims] == [1]


def test_a_new_task_is_found_when_the_engine_is_woken(ledger: Ledger, clock: HandClock) -> None:
    stage = Steps(ledger, clock)

    async def scenario() -> None:
        engine = _sleeper(ledger, stage)
        async with running(engine):
            await asyncio.sleep(0.05)
            draft(ledger)
            engine.wake()
            await until(lambda: found(ledger).state is TaskState.OPEN)

    asyncio.run(scenario())


def test_a_thread_may_wake_the_engine(ledger: Ledger, clock: HandClock) -> None:
    """The loop has nothing else to do, so only a wake that it hears of ends its sleep before the safety net does."""
    done = asyncio.Event()

    class Telling(Steps):
        async def run(self, claim: Claim) -> None:
            await super().run(claim)
            done.set()

    async def scenario() -> None:
        engine = _sleeper(ledger, Telling(ledger, clock))
        async with running(engine):
            await asyncio.sleep(0.2)
            draft(ledger)
            threading.Timer(0.1, engine.wake).start()  # by then the loop sleeps
            await asyncio.wait_for(done.wait(), 60)

    asyncio.run(scenario())


@pytest.mark.parametrize("turns", range(6))
def test_an_engine_that_is_woken_while_it_is_stopped_stops(ledger: Ledger, clock: HandClock, turns: int) -> None:
    async def scenario() -> None:
        engine = _engine(ledger, Steps(ledger, clock))
        running = asyncio.create_task(engine.run())
        await asyncio.sleep(0.1)
        engine.wake()
        for _ in range(turns):  # of the event loop: at one of them the wait has ended and nobody has heard of it yet
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait({running}, timeout=60)
        assert running.cancelled()

    asyncio.run(scenario())


def test_an_engine_that_does_not_run_may_be_woken(ledger: Ledger, clock: HandClock) -> None:
    _engine(ledger, Steps(ledger, clock)).wake()


def test_a_step_whose_worker_died_is_done_again_by_another(ledger: Ledger, clock: HandClock) -> None:
    draft(ledger)
    dead = claimed(ledger, TaskState.DRAFT, owner="dead")
    stage = Steps(ledger, clock)

    async def scenario() -> None:
        engine = _engine(ledger, stage)
        async with running(engine):
            await asyncio.sleep(0.1)
            assert stage.claims == []
            clock.time += LEASE_SECONDS
            engine.wake()
            await until(lambda: found(ledger).state is TaskState.OPEN)

    asyncio.run(scenario())
    assert [(claim.lease.token, claim.attempts) for claim in stage.claims] == [(dead.lease.token + 1, 2)]


def test_a_worker_that_slept_through_its_lease_writes_nothing(ledger: Ledger, clock: HandClock) -> None:
    draft(ledger)

    async def scenario() -> None:
        stage = Held(ledger)
        async with running(_engine(ledger, stage, owner="sleeper")):
            await stage.begun.wait()
            clock.time += LEASE_SECONDS
            other = claimed(ledger, TaskState.DRAFT, owner="other")
            stage.go_on.set()
            await asyncio.sleep(0.1)
            assert found(ledger).state is TaskState.DRAFT
            ledger.tasks.renew(other.lease, lease_seconds=LEASE_SECONDS)

    asyncio.run(scenario())
    assert [event.name for event in ledger.events.of_task(TASK)] == ["task_created"]


def test_a_long_step_keeps_its_lease_and_is_stopped_when_it_is_lost(ledger: Ledger, clock: HandClock) -> None:
    """The clock goes on by two thirds of a lease as soon as the lease has been renewed: four such steps are more than two leases."""
    draft(ledger)
    lease_seconds = 0.3

    async def scenario() -> None:
        stage = Held(ledger)
        async with running(_engine(ledger, stage, lease_seconds=lease_seconds)):
            await stage.begun.wait()
            for _ in range(4):
                clock.time += 2 / 3 * lease_seconds
                assert ledger.tasks.claim([TaskState.DRAFT], owner="other", block=0, lease_seconds=15) is None
                await until(lambda: _row(ledger).lease_expires_at == clock.now() + lease_seconds)
            _take_over(ledger, clock)
            await until(lambda: stage.cancelled)

    asyncio.run(scenario())
    assert found(ledger).state is TaskState.DRAFT


def _take_over(ledger: Ledger, clock: HandClock) -> None:
    """What another process does that takes the lease to have run out: its clock is an hour ahead."""
    ahead = Ledger.open(str(ledger.engine.url), HandClock(clock.now() + 3600))
    claimed(ahead, TaskState.DRAFT, owner="other")
    ahead.engine.dispose()


def test_our_own_failure_is_tried_again_with_growing_rests(ledger: Ledger, clock: HandClock) -> None:
    draft(ledger)
    stage = Steps(ledger, clock, JobFailed("died"), RuntimeError("a bug"), JobFailed("died again"))

    async def scenario() -> None:
        engine = _engine(ledger, stage)

        def turn() -> None:
            clock.time += 0.25 if _rests(ledger, clock) else 0.0
            engine.wake()

        async with running(engine):
            await until(lambda: found(ledger).state is TaskState.OPEN, each_time=turn)

    asyncio.run(scenario())
    rests = [later - earlier for earlier, later in zip(stage.times, stage.times[1:], strict=False)]
    assert len(rests) == 3
    assert rests == [1, 2, 4]


@pytest.mark.parametrize("error", [JobFailed("died"), SubmissionRejected("a miner's")])
def test_what_never_works_ends_the_task_at_the_limit_with_whose_fault_it_was(
    ledger: Ledger, clock: HandClock, error: JobFailed | SubmissionRejected
) -> None:
    draft(ledger)
    stage = Steps(ledger, clock, *[error] * 100)

    async def scenario() -> None:
        engine = _engine(ledger, stage)

        def turn() -> None:
            clock.time += 60 if _rests(ledger, clock) else 0
            engine.wake()

        async with running(engine):
            await until(lambda: found(ledger).state.ended, each_time=turn)

    asyncio.run(scenario())
    task = found(ledger)
    assert len(stage.claims) == MAX_ATTEMPTS == 12
    assert task.state is TaskState.FAILED
    assert task.failure is not None
    assert (task.failure.blame, task.failure.code) == (error.blame, error.code)


def _run_until_settled(ledger: Ledger, clock: HandClock, stage: Steps, *, turn_seconds: float = 60.0) -> None:
    """Let engine and clock go on until the task has left DRAFT."""

    async def scenario() -> None:
        engine = _engine(ledger, stage)

        def turn() -> None:
            """The clock waits for the step of this hour."""
            clock.time += turn_seconds if _rests(ledger, clock) else 0.0
            engine.wake()

        async with running(engine):
            await until(lambda: found(ledger).state is not TaskState.DRAFT, each_time=turn)

    asyncio.run(scenario())


def test_an_outage_of_an_hour_costs_no_task_and_rests_a_minute_at_most(ledger: Ledger, clock: HandClock) -> None:
    draft(ledger)
    outages = 60
    stage = Steps(ledger, clock, *[ChainUnreachable("no answer")] * outages)
    _run_until_settled(ledger, clock, stage)
    assert found(ledger).state is TaskState.OPEN
    assert len(stage.claims) == outages + 1 > MAX_ATTEMPTS
    assert {claim.attempts for claim in stage.claims} == {1}  # none of them was an attempt
    assert stage.times[-1] - stage.times[0] >= 55 * 60


def test_outages_between_crashes_add_nothing_to_their_count_and_take_nothing_from_it(
    ledger: Ledger, clock: HandClock
) -> None:
    draft(ledger)
    errors = [error for _ in range(MAX_ATTEMPTS) for error in (OutsideError("the hub is away"), JobFailed("died"))]
    stage = Steps(ledger, clock, *errors, *[JobFailed("one too many")] * 5)
    _run_until_settled(ledger, clock, stage)
    assert found(ledger).state is TaskState.FAILED
    assert len(stage.claims) == 2 * MAX_ATTEMPTS


def test_an_outage_without_an_end_ends_a_draft_after_a_day_and_says_what_was_away(
    ledger: Ledger, clock: HandClock
) -> None:
    draft(ledger)
    stage = Steps(ledger, clock, *[OutsideError("the hub is away", code="outside")] * 1000)
    _run_until_settled(ledger, clock, stage, turn_seconds=3600.0)
    task = found(ledger)
    assert task.state is TaskState.FAILED
    assert task.failure is not None
    assert (task.failure.blame, task.failure.message) == (Blame.OUTSIDE, "the hub is away")
    assert 86_400 <= stage.times[-1] - stage.times[0] <= 86_400 + 2 * 3600


@pytest.mark.parametrize("state", [TaskState.ASSIGNED, TaskState.COLLECTED, TaskState.MEASURED])
def test_once_miners_train_an_outage_may_last_as_long_as_a_score_counts(state: TaskState) -> None:
    assert PATIENCE_SECONDS.get(state, LONGEST_PATIENCE_SECONDS) == max(days for days, _ in PAPER.windows) * 86_400


def test_patience_goes_on_where_it_was_after_a_restart_of_the_validator(tmp_path: Path) -> None:
    clock = HandClock(SystemClock().now())
    url = f"sqlite:///{tmp_path}/ledger.db"
    first = Ledger.open(url, clock)
    draft(first)
    claim = claimed(first, TaskState.DRAFT)
    first.tasks.postpone(claim.lease, seconds=0.0, problem="away", outage=True)
    first.engine.dispose()
    clock.time += 1000
    again = claimed(second := Ledger.open(url, clock), TaskState.DRAFT)
    assert (again.attempts, again.outages) == (1, 1)
    assert again.outage_seconds == pytest.approx(1000)
    second.tasks.postpone(again.lease, seconds=0.0)  # it was there again
    assert claimed(second, TaskState.DRAFT).outage_seconds == 0.0
    second.engine.dispose()


def test_a_step_that_keeps_killing_its_validator_ends_at_the_limit(ledger: Ledger, clock: HandClock) -> None:
    draft(ledger)
    for _ in range(MAX_ATTEMPTS):
        claimed(ledger, TaskState.DRAFT)
        clock.time += LEASE_SECONDS  # the process is gone, and its lease runs out
    stage = Steps(ledger, clock)

    async def scenario() -> None:
        async with running(_engine(ledger, stage)):
            await until(lambda: found(ledger).state.ended)

    asyncio.run(scenario())
    task = found(ledger)
    assert (stage.claims, task.state) == ([], TaskState.FAILED)
    assert task.failure is not None
    assert task.failure.blame is Blame.OPERATOR


def test_a_customers_failure_ends_the_task_at_once_with_the_reason(ledger: Ledger, clock: HandClock) -> None:
    draft(ledger)
    stage = Steps(ledger, clock, DatasetInvalid("Row 3 is empty", rows=[3], fix="Fill it"))

    async def scenario() -> None:
        async with running(_engine(ledger, stage)):
            await until(lambda: found(ledger).state.ended)

    asyncio.run(scenario())
    task = found(ledger)
    assert (len(stage.claims), task.state) == (1, TaskState.FAILED)
    assert task.failure is not None
    assert (task.failure.blame, task.failure.message) == (Blame.CUSTOMER, "Row 3 is empty. Fill it")


def test_a_task_that_fails_does_not_hold_up_the_next(ledger: Ledger, clock: HandClock) -> None:
    draft(ledger)
    clock.time += 1
    draft(ledger, task_id=OTHER)
    stage = Steps(ledger, clock, JobFailed("died"))

    async def scenario() -> None:
        async with running(_engine(ledger, stage)):
            await until(lambda: found(ledger, OTHER).state is TaskState.OPEN)

    asyncio.run(scenario())
    assert found(ledger).state is TaskState.DRAFT


def test_an_error_after_the_lease_was_lost_changes_nothing(ledger: Ledger, clock: HandClock) -> None:
    draft(ledger)

    class LosesItsLease:
        async def run(self, claim: Claim) -> None:
            clock.time += LEASE_SECONDS
            self.other = claimed(ledger, TaskState.DRAFT, owner="other")
            raise DatasetInvalid("too late to say so")

    stage = LosesItsLease()

    async def scenario() -> None:
        async with running(_engine(ledger, stage)):
            await until(lambda: hasattr(stage, "other"))
            await asyncio.sleep(0.1)

    asyncio.run(scenario())
    assert found(ledger).state is TaskState.DRAFT
    ledger.tasks.renew(stage.other.lease, lease_seconds=1)
