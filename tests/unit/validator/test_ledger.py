"""The ledger's promises, on every database: one claim at a time, fences hold, calls happen once, nothing is lost by reopening."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.orm import Session

from gradients.domain.evaluation import Measurement, Metric, Placing
from gradients.domain.submission import BASE_ENTRANT, Submission, SubmissionState
from gradients.domain.task import Blob, Hotkey, Prepared, TaskId, TaskRequest, TaskState, Window
from gradients.errors import Blame, LeaseLost, LedgerConflict
from gradients.testing.clock import HandClock
from validator.ledger import Ledger
from validator.ledger.idempotency import KEPT_SECONDS, Answered
from validator.ledger.lease import Claim
from validator.ledger.outbox import OutboxState
from validator.ledger.placings import add_placings
from validator.ledger.rows import LedgerTable
from validator.ledger.submissions import add_submissions

TASK = TaskId("instruct-0123456789ab")
REQUEST = TaskRequest(type="instruct", base="nano-lm", dataset={"path": "rows.jsonl"}, parameters={}, hours=0.5)
PREPARED = Prepared(
    base_digest="b" * 64,
    base_parameters=1_500_000,
    train=Blob("c" * 64, 10),
    held_out=Blob("d" * 64, 5),
    train_rows=90,
    held_out_rows=10,
    held_out_commitment="e" * 64,
    removed=(("empty", 2), ("repeated", 1)),
)
METRIC = Metric("completion cross-entropy", "nats/token", 1, "lower")
ALICE = Hotkey("5Alice")


@pytest.fixture
def ledger(database_url: str, clock: HandClock) -> Iterator[Ledger]:
    opened = Ledger.open(database_url, clock)
    yield opened
    opened.engine.dispose()


def _draft(ledger: Ledger) -> None:
    ledger.tasks.create(TASK, REQUEST, customer="acme", salt=b"s" * 32)


def _claim(ledger: Ledger, state: TaskState = TaskState.DRAFT, *, owner: str = "one", block: int = 0) -> Claim:
    claim = ledger.tasks.claim([state], owner=owner, block=block, lease_seconds=15)
    assert claim is not None
    return claim


def _assigned(ledger: Ledger) -> Claim:
    """A leased task in ASSIGNED with Alice invited."""
    _draft(ledger)
    invite = Submission(task_id=TASK, hotkey=ALICE, uid=3, state=SubmissionState.INVITED)
    ledger.tasks.advance(
        _claim(ledger).lease,
        came_from=TaskState.DRAFT,
        to=TaskState.ASSIGNED,
        prepared=PREPARED,
        window=Window(1, 2, 3),
        also=lambda session: add_submissions(session, [invite]),
    )
    return _claim(ledger, TaskState.ASSIGNED)


def test_a_task_reads_back_as_it_was_written(ledger: Ledger) -> None:
    window = Window(started_at_block=5, deadline_block=50, reveal_until_block=80)
    _draft(ledger)
    lease = _claim(ledger).lease
    ledger.tasks.advance(lease, came_from=TaskState.DRAFT, to=TaskState.ASSIGNED, prepared=PREPARED, window=window)
    task = ledger.tasks.find(TASK)
    assert task is not None
    assert (task.request, task.prepared, task.window, task.state) == (REQUEST, PREPARED, window, TaskState.ASSIGNED)


def test_a_key_that_two_use_at_once_makes_one_task(ledger: Ledger) -> None:
    """The second waits for the first one's transaction, and then writes nothing."""

    def post(number: int) -> str:
        task_id = TaskId(f"instruct-{number:012x}")
        also = ledger.idempotency.keep("acme", "key", Answered(task_id, "a" * 64))
        try:
            return ledger.tasks.create(task_id, REQUEST, customer="acme", salt=b"s" * 32, also=also).id
        except LedgerConflict:
            found = ledger.idempotency.find("acme", "key")
            assert found is not None
            return found.task_id

    with ThreadPoolExecutor(4) as pool:
        posted = set(pool.map(post, range(8)))
    assert [{task.id for task in ledger.tasks.list()}] == [posted]
    assert len(posted) == 1


def test_a_key_is_forgotten_after_a_day_and_of_use_again(ledger: Ledger, clock: HandClock) -> None:
    _draft(ledger)
    also = ledger.idempotency.keep("acme", "key", Answered(TASK, "a" * 64))
    with Session(ledger.engine) as session, session.begin():
        also(session)
    clock.time += KEPT_SECONDS - 1
    assert ledger.idempotency.find("acme", "key") == Answered(TASK, "a" * 64)
    assert ledger.idempotency.find("rival", "key") is None
    clock.time += 1
    assert ledger.idempotency.find("acme", "key") is None
    with Session(ledger.engine) as session, session.begin():
        also(session)
    assert ledger.idempotency.find("acme", "key") == Answered(TASK, "a" * 64)


def test_only_one_owner_holds_a_task(ledger: Ledger) -> None:
    _draft(ledger)
    _claim(ledger, owner="one")
    assert ledger.tasks.claim([TaskState.DRAFT], owner="two", block=0, lease_seconds=15) is None


def test_a_lease_that_ran_out_passes_to_the_next_and_fences_the_former(ledger: Ledger, clock: HandClock) -> None:
    _draft(ledger)
    former = _claim(ledger, owner="one")
    clock.time += 16
    latter = _claim(ledger, owner="one")
    assert latter.lease.token == former.lease.token + 1
    with pytest.raises(LeaseLost):
        ledger.tasks.advance(former.lease, came_from=TaskState.DRAFT, to=TaskState.OPEN)
    with pytest.raises(LeaseLost):
        ledger.tasks.renew(former.lease, lease_seconds=15)
    ledger.tasks.advance(latter.lease, came_from=TaskState.DRAFT, to=TaskState.OPEN)


def test_a_renewed_lease_does_not_run_out(ledger: Ledger, clock: HandClock) -> None:
    _draft(ledger)
    claim = _claim(ledger)
    clock.time += 10
    ledger.tasks.renew(claim.lease, lease_seconds=15)
    clock.time += 10
    assert ledger.tasks.claim([TaskState.DRAFT], owner="two", block=0, lease_seconds=15) is None


def test_a_state_is_left_only_once(ledger: Ledger) -> None:
    _draft(ledger)
    lease = _claim(ledger).lease
    with pytest.raises(LedgerConflict):
        ledger.tasks.advance(lease, came_from=TaskState.OPEN, to=TaskState.ASSIGNED)


def test_a_task_waits_for_its_block(ledger: Ledger) -> None:
    _draft(ledger)
    ledger.tasks.advance(_claim(ledger).lease, came_from=TaskState.DRAFT, to=TaskState.ASSIGNED, due_at_block=7)
    assert ledger.tasks.claim([TaskState.ASSIGNED], owner="one", block=6, lease_seconds=15) is None
    _claim(ledger, TaskState.ASSIGNED, block=7)


def test_attempts_are_counted_before_the_work_and_start_anew_in_the_next_state(
    ledger: Ledger, clock: HandClock
) -> None:
    _draft(ledger)
    assert _claim(ledger).attempts == 1
    clock.time += 16
    second = _claim(ledger)
    assert second.attempts == 2
    ledger.tasks.advance(second.lease, came_from=TaskState.DRAFT, to=TaskState.OPEN)
    assert _claim(ledger, TaskState.OPEN).attempts == 1


def test_a_postponed_task_rests(ledger: Ledger, clock: HandClock) -> None:
    _draft(ledger)
    ledger.tasks.postpone(_claim(ledger).lease, seconds=5, problem="chain down")
    assert ledger.tasks.claim([TaskState.DRAFT], owner="one", block=0, lease_seconds=15) is None
    clock.time += 5
    _claim(ledger)


def test_tasks_that_rest_take_turns(ledger: Ledger, clock: HandClock) -> None:
    """However short their rests are, the oldest ones don't keep the others waiting."""
    names = [TaskId(f"instruct-{number:012x}") for number in range(3)]
    for task_id in names:
        ledger.tasks.create(task_id, REQUEST, customer="acme", salt=b"s" * 32)
    taken = []
    for _ in range(6):
        claim = _claim(ledger)
        taken.append(claim.task.id)
        clock.time += 1
        ledger.tasks.postpone(claim.lease, seconds=0)
    assert taken == names + names


def test_a_look_is_remembered_within_its_state(ledger: Ledger) -> None:
    _draft(ledger)
    claim = _claim(ledger)
    assert claim.looked_at_block is None
    ledger.tasks.postpone(claim.lease, seconds=0, looked_at_block=7)
    ledger.tasks.postpone(_claim(ledger).lease, seconds=0)
    claim = _claim(ledger)
    assert claim.looked_at_block == 7
    ledger.tasks.advance(claim.lease, came_from=TaskState.DRAFT, to=TaskState.OPEN)
    assert _claim(ledger, TaskState.OPEN).looked_at_block is None


def test_migrations_make_the_tables_that_the_rows_describe(ledger: Ledger) -> None:
    with ledger.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), LedgerTable.metadata) == []


def test_a_measurement_is_written_once(ledger: Ledger) -> None:
    lease = _assigned(ledger).lease
    first = Measurement(ALICE, METRIC, value=2.0, stderr=0.1, per_row=(1.9, 2.1), extras=(("perplexity", 7.4),))
    ledger.submissions.measured(lease, first)
    ledger.submissions.measured(lease, Measurement(ALICE, METRIC, value=9.0, stderr=0.1, per_row=(9.0, 9.0)))
    ledger.submissions.measured(lease, Measurement(BASE_ENTRANT, METRIC, value=3.0, stderr=0.1, per_row=(3.0, 3.0)))
    assert ledger.submissions.measurements(TASK)[ALICE] == first
    assert ledger.submissions.of_task(TASK)[0].state is SubmissionState.MEASURED


def test_a_measurement_that_stopped_early_says_of_how_many_rows(ledger: Ledger) -> None:
    lease = _assigned(ledger).lease
    early = Measurement(
        ALICE, METRIC, value=2.0, stderr=0.1, per_row=(1.9, 2.1), extras=(("perplexity", 7.4),), rows_of=400
    )
    ledger.submissions.measured(lease, early)
    assert ledger.submissions.measurements(TASK)[ALICE] == early


def test_a_fenced_worker_measures_nothing(ledger: Ledger, clock: HandClock) -> None:
    lease = _assigned(ledger).lease
    clock.time += 16
    _claim(ledger, TaskState.ASSIGNED)
    with pytest.raises(LeaseLost):
        ledger.submissions.measured(lease, Measurement(ALICE, METRIC, value=2.0, stderr=0.1, per_row=(2.0,)))
    assert ledger.submissions.measurements(TASK) == {}


def test_points_come_with_the_state_or_not_at_all(ledger: Ledger, clock: HandClock) -> None:
    claim = _assigned(ledger)
    placing = Placing(ALICE, 1, 0.5, 1.0, "best of the field", gain=0.25, copy_of=Hotkey("5Bob"), fault=Blame.OUTSIDE)

    def write(session: object) -> None:
        add_placings(session, claim.task, [placing], rules_version=2, factor=2.0, now=clock.now())  # type: ignore[arg-type]

    with pytest.raises(LedgerConflict):
        ledger.tasks.advance(claim.lease, came_from=TaskState.MEASURED, to=TaskState.SCORED, also=write)
    assert ledger.placings.of_task(TASK) == []
    ledger.tasks.advance(claim.lease, came_from=TaskState.ASSIGNED, to=TaskState.SCORED, also=write)
    assert ledger.placings.of_task(TASK) == [placing]
    [result] = ledger.placings.results(window_blocks=0)
    assert (result.task_id, result.hotkey, result.customer, result.rules_version) == (TASK, ALICE, "acme", 2)
    assert (result.points, result.adjusted_points, result.factor, result.gain) == (0.5, 1.0, 2.0, 0.25)
    assert (result.copied, result.fault, result.deadline_block) == (
        True,
        Blame.OUTSIDE,
        claim.task.blocks.deadline_block,
    )


def test_a_call_is_decided_once(ledger: Ledger) -> None:
    assert ledger.outbox.decide("weights:12", {"5Alice": 1.0}, block=120)
    assert not ledger.outbox.decide("weights:12", {"5Bob": 1.0}, block=125)
    assert [call.payload for call in ledger.outbox.open()] == [{"5Alice": 1.0}]


def test_a_sent_call_stays_open_until_the_chain_shows_it(ledger: Ledger, database_url: str, clock: HandClock) -> None:
    ledger.outbox.decide("weights:12", {}, block=120)
    [pending] = ledger.outbox.open()
    sent = ledger.outbox.mark_sent(pending, block=121)
    assert sent is not None
    reopened = Ledger.open(database_url, clock)
    assert [(call.state, call.sent_at_block) for call in reopened.outbox.open()] == [(OutboxState.SENT, 121)]
    reopened.outbox.finish(sent, {"block": 122})
    assert ledger.outbox.open() == []
    reopened.engine.dispose()


def test_of_two_processes_that_have_seen_the_same_call_one_sends_it(
    ledger: Ledger, database_url: str, clock: HandClock
) -> None:
    other = Ledger.open(database_url, clock)
    ledger.outbox.decide("weights:12", {}, block=120)
    [ours], [theirs] = ledger.outbox.open(), other.outbox.open()
    sent = other.outbox.mark_sent(theirs, block=121)
    assert sent is not None
    assert ledger.outbox.mark_sent(ours, block=121) is None
    assert ledger.outbox.give_up(ours, "its epoch is over") is None  # what was seen before it was sent decides nothing
    assert ledger.outbox.open() == [sent]
    again = ledger.outbox.mark_sent(sent, block=400)  # whoever sees that it was never included may send it again, once
    assert again is not None
    assert other.outbox.mark_sent(sent, block=400) is None
    other.engine.dispose()


def test_a_refused_call_is_open_again_and_keeps_the_reason(ledger: Ledger) -> None:
    ledger.outbox.decide("weights:12", {}, block=120)
    [pending] = ledger.outbox.open()
    sent = ledger.outbox.mark_sent(pending, block=121)
    assert sent is not None
    ledger.outbox.refused(sent, "rate_limited")
    [call] = ledger.outbox.open()
    assert (call.state, call.sent_at_block, call.problem) == (OutboxState.PENDING, 121, "rate_limited")


def test_of_each_customer_one_task_is_worked_on_where_that_is_asked_for(ledger: Ledger, clock: HandClock) -> None:
    def claim() -> Claim | None:
        clock.time += 1
        return ledger.tasks.claim([TaskState.DRAFT], owner="one", block=0, lease_seconds=15, one_per_customer=True)

    first, second, third = (TaskId(f"instruct-{number:012x}") for number in range(3))
    for task_id, customer in ((first, "acme"), (second, "acme"), (third, "others")):
        ledger.tasks.create(task_id, REQUEST, customer=customer, salt=b"s" * 32)
        clock.time += 1
    begun = [claim(), claim(), claim()]
    assert [each and each.task.id for each in begun] == [first, third, None]
    assert begun[0] is not None
    ledger.tasks.postpone(begun[0].lease, seconds=60)
    assert [each and each.task.id for each in (claim(), claim())] == [second, None]
    clock.time += 60  # nobody has kept a lease alive
    assert [each and each.task.id for each in (claim(), claim(), claim())] == [second, third, None]


def test_an_api_key_opens_until_it_is_revoked(ledger: Ledger) -> None:
    key = ledger.customers.issue("acme")
    assert ledger.customers.of_key(key) == "acme"
    assert ledger.customers.of_key(key + "x") is None
    assert ledger.customers.revoke(key)
    assert ledger.customers.of_key(key) is None


def test_every_change_of_a_task_leaves_an_event(ledger: Ledger) -> None:
    _assigned(ledger)
    names = [each.name for each in ledger.events.of_task(TASK)]
    assert names == ["task_created", "task_advanced"]


def test_of_equal_events_that_may_be_written_once_one_is_however_many_try_at_once(
    ledger: Ledger, database_url: str, clock: HandClock
) -> None:
    """By two processes: each has connections of its own."""
    _draft(ledger)
    others, together = Ledger.open(database_url, clock), threading.Barrier(8)

    def vote(number: int) -> bool:
        voter, nonce = (ledger, others)[number % 2], str(number // 4)
        together.wait(timeout=300)
        try:
            voter.events.add_once("voted", task_id=TASK, fields={"nonce": nonce, "by": number}, by="nonce")
        except LedgerConflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        counted = list(pool.map(vote, range(8)))
    others.engine.dispose()
    kept = ledger.events.of_task(TASK, name="voted")
    assert [sum(counted[:4]), sum(counted[4:])] == [1, 1]  # four votes on each of two answers
    assert {event.fields["by"] for event in kept} == {number for number, is_counted in enumerate(counted) if is_counted}


def test_behind_an_event_that_there_will_never_be_is_nothing(ledger: Ledger) -> None:
    _draft(ledger)
    assert len(ledger.events.after(TASK, 0)) == 1
    assert ledger.events.after(TASK, 2**63 - 1) == []


def test_states_with_a_task_that_could_be_claimed_are_due(ledger: Ledger, clock: HandClock) -> None:
    states = [TaskState.DRAFT, TaskState.OPEN]
    assert ledger.tasks.due(states, block=0) == frozenset()
    _draft(ledger)
    assert ledger.tasks.due(states, block=0) == {TaskState.DRAFT}
    assert ledger.tasks.due([TaskState.OPEN], block=0) == frozenset()
    lease = _claim(ledger).lease
    assert ledger.tasks.due(states, block=0) == frozenset()  # somebody works on it
    ledger.tasks.postpone(lease, seconds=5)
    assert ledger.tasks.due(states, block=0) == frozenset()
    clock.time += 5
    assert ledger.tasks.due(states, block=0) == {TaskState.DRAFT}


def test_two_processes_that_look_at_once_claim_different_tasks(
    ledger: Ledger, database_url: str, clock: HandClock
) -> None:
    names = [TaskId(f"instruct-{number:012x}") for number in range(8)]
    for task_id in names:
        ledger.tasks.create(task_id, REQUEST, customer="acme", salt=b"s" * 32)
    other = Ledger.open(database_url, clock)
    with ThreadPoolExecutor(4) as threads:
        claims = list(threads.map(lambda number: _claim((ledger, other)[number % 2], owner=str(number)), range(8)))
    assert sorted(claim.task.id for claim in claims) == names
    other.engine.dispose()
