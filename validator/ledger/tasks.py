"""Tasks: created once, claimed under a lease, moved on by compare-and-set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import ColumnElement, Engine, func, select, update
from sqlalchemy.orm import Session, aliased

from gradients.bases.continued import continued_task
from gradients.clock import Clock
from gradients.domain.failure import Failure
from gradients.domain.json import JsonObject
from gradients.domain.task import Prepared, Task, TaskId, TaskRequest, TaskState, Window
from gradients.errors import CustomerError, LedgerConflict
from validator.ledger.encoding import encode, task_of
from validator.ledger.events import record
from validator.ledger.lease import Claim, Lease, fenced
from validator.ledger.listing import Place, TaskFilter, TaskPage, page_rows
from validator.ledger.rows import EventRow, TaskRow

CANCELLABLE = (TaskState.DRAFT, TaskState.OPEN)  # afterwards miners' time is in it

Also = Callable[[Session], None]  # further writes of the same transaction


class TaskBegun(CustomerError):
    """It is too late to take a task back: miners work on it, or it has ended."""

    default_code = "task_begun"


class TooManyTasks(CustomerError):
    """A customer has as many tasks running as it may."""

    default_code = "too_many_tasks"


class Tasks:
    """All tasks of one validator."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def create(
        self, task_id: TaskId, request: TaskRequest, *, customer: str, salt: bytes, also: Also | None = None
    ) -> Task:
        """A new task in DRAFT, in one transaction with `also`."""
        now = self._clock.now()
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            row = TaskRow(
                id=task_id,
                state=TaskState.DRAFT,
                created_at=now,
                customer=customer,
                request=encode(request),
                salt=salt,
                continues=continued_task(request.base),
            )
            session.add(row)
            if also:
                also(session)
            record(session, at=now, name="task_created", task_id=task_id, fields={"customer": customer})
        return task_of(row)

    def find(self, task_id: str) -> Task | None:
        """The task, or None when there is no such task."""
        with Session(self._engine) as session:
            row = session.get(TaskRow, task_id)
            return task_of(row) if row else None

    def lineage(self, task: Task) -> Sequence[Task]:
        """The tasks that this one goes on from, the first of them first."""
        found = list[Task]()
        while (before := continued_task((found[0] if found else task).request.base)) is not None:
            if (parent := self.find(before)) is None:
                break
            found.insert(0, parent)
        return found

    def continuations(self, task_id: str) -> Sequence[str]:
        """Ids of the tasks that go on from this one, oldest first."""
        query = select(TaskRow.id).where(TaskRow.continues == task_id).order_by(TaskRow.created_at, TaskRow.id)
        with Session(self._engine) as session:
            return session.scalars(query).all()

    def customer_of(self, task_id: str) -> str | None:
        """Whose task it is."""
        with Session(self._engine) as session:
            row = session.get(TaskRow, task_id)
            return row.customer if row else None

    def list(self, *, customer: str | None = None, limit: int = 100) -> Sequence[Task]:
        """Tasks, newest first; of one customer or of all."""
        query = select(TaskRow).order_by(TaskRow.created_at.desc(), TaskRow.id).limit(limit)
        if customer is not None:
            query = query.where(TaskRow.customer == customer)
        with Session(self._engine) as session:
            return [task_of(row) for row in session.scalars(query)]

    def page(self, customer: str | None, wanted: TaskFilter, *, limit: int, after: Place | None = None) -> TaskPage:
        """At most `limit` tasks behind a place, newest first, without their draws; of one customer or of all."""
        with Session(self._engine) as session:
            rows = page_rows(session, customer, wanted, after=after, limit=limit + 1)
            shown = rows[:limit]
            more = Place(shown[-1].created_at, shown[-1].id) if len(rows) > limit else None
            return TaskPage([task_of(row, with_draw=False) for row in shown], more)

    def cancel(self, task_id: TaskId) -> Task:
        """The task, taken back; again, it stays so. Whoever works on it has lost its lease. Raises TaskBegun once miners are drawn."""
        now = self._clock.now()
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            row = session.get_one(TaskRow, task_id, with_for_update=True)
            if row.state != TaskState.CANCELLED:
                if row.state not in CANCELLABLE or row.window is not None:
                    raise TaskBegun(
                        f"Task {task_id} is {row.state}, and miners have trained for it", fix="Let it run to its end"
                    )
                before, row.state, row.attempts, row.due_at = row.state, TaskState.CANCELLED, 0, 0.0
                row.lease_owner, row.lease_token, row.lease_expires_at = None, row.lease_token + 1, 0.0
                fields = {"from": before, "to": TaskState.CANCELLED.value}
                record(session, at=now, name="task_advanced", task_id=task_id, fields=fields)
        return task_of(row)

    def count(self) -> int:
        """How many tasks there are."""
        with Session(self._engine) as session:
            return session.scalar(select(func.count()).select_from(TaskRow)) or 0

    def running(self, *, customer: str | None = None) -> int:
        """How many tasks have not ended; of one customer or of all."""
        with Session(self._engine) as session:
            return _running(session, customer)

    def at_most(self, most: int, customer: str) -> Also:
        """Refuses, in the transaction that creates a customer's task, one that is more than so many at once. Raises TooManyTasks."""

        def check(session: Session) -> None:
            if _running(session, customer) > most:
                raise TooManyTasks(
                    f"{most} of your tasks are running, which is as many as may at once",
                    fix="Wait until one has ended, or cancel one that has not begun",
                )

        return check

    def unended(self) -> Sequence[Task]:
        """Tasks that have not ended."""
        ended = [state for state in TaskState if state.ended]
        with Session(self._engine) as session:
            return [task_of(row) for row in session.scalars(select(TaskRow).where(TaskRow.state.not_in(ended)))]

    def ended(self) -> Sequence[tuple[Task, float]]:
        """Tasks that have ended, each with the time at which it did."""
        ended = [state for state in TaskState if state.ended]
        last = (
            select(EventRow.task_id, func.max(EventRow.at).label("at"))
            .where(EventRow.name == "task_advanced")
            .group_by(EventRow.task_id)
            .subquery()
        )
        query = select(TaskRow, last.c.at).join(last, last.c.task_id == TaskRow.id).where(TaskRow.state.in_(ended))
        with Session(self._engine) as session:
            return [(task_of(row), at) for row, at in session.execute(query)]

    def published(self) -> Sequence[Prepared]:
        """Of the running tasks: what of it miners may fetch are train rows, and bases that nobody else has."""
        running = select(TaskRow).where(TaskRow.state.in_([TaskState.OPEN, TaskState.ASSIGNED]))
        with Session(self._engine) as session:
            return [p for row in session.scalars(running) if (p := task_of(row).prepared)]

    def published_blobs(self) -> frozenset[str]:
        """Digests of what miners may fetch."""
        found = self.published()
        files = (blob.sha256 for p in found if p.parent for _, blob in p.parent.files)
        return frozenset([*(p.train.sha256 for p in found), *files])

    def due(self, states: Sequence[TaskState], *, block: int, one_per_customer: bool = False) -> frozenset[TaskState]:
        """Those of `states` in which a task could be claimed; `one_per_customer` as in `claim`."""
        due = _due(states, block=block, now=self._clock.now(), one_per_customer=one_per_customer)
        query = select(TaskRow.state).where(*due).distinct()
        with Session(self._engine) as session:
            return frozenset(map(TaskState, session.scalars(query)))

    def claim(
        self,
        states: Sequence[TaskState],
        *,
        owner: str,
        block: int,
        lease_seconds: float,
        one_per_customer: bool = False,
    ) -> Claim | None:
        """Lease the task that has been due for longest in one of `states`, or None when nothing is due.

        One that was postponed stands behind those that were due before its rest was over, so several take turns.
        The attempt is counted before any work, so that a task that kills its validator is noticed.

        Args:
            one_per_customer: none of a customer of whom another task is worked on in these states. Two claims of one moment may take two
                of one customer, where the database lets them: then others have a place less for a while.
        """
        now = self._clock.now()
        due = (
            select(TaskRow)
            .where(*_due(states, block=block, now=now, one_per_customer=one_per_customer))
            .order_by(TaskRow.due_at, TaskRow.created_at, TaskRow.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            row = session.scalars(due).first()
            if row is None:
                return None
            row.lease_owner, row.lease_token = owner, row.lease_token + 1
            row.lease_expires_at, row.attempts = now + lease_seconds, row.attempts + 1
        lease = Lease(TaskId(row.id), owner, row.lease_token)
        return Claim(
            task_of(row),
            row.salt,
            lease,
            attempts=row.attempts,
            outages=row.outages,
            outage_seconds=now - row.outage_since if row.outage_since is not None else 0.0,
            looked_at_block=row.looked_at_block,
        )

    def hasten(self, task_id: str) -> None:
        """Let an assigned task be looked at from now on, before its deadline."""
        waits = (TaskRow.id == task_id, TaskRow.state == TaskState.ASSIGNED, TaskRow.due_at_block > 0)
        with Session(self._engine) as session, session.begin():
            session.execute(update(TaskRow).where(*waits).values(due_at_block=0))

    def renew(self, lease: Lease, *, lease_seconds: float) -> None:
        """Keep the lease for another while. Raises LeaseLost."""
        with Session(self._engine) as session, session.begin():
            fenced(session, lease).lease_expires_at = self._clock.now() + lease_seconds

    def advance(
        self,
        lease: Lease,
        *,
        came_from: TaskState,
        to: TaskState,
        prepared: Prepared | None = None,
        window: Window | None = None,
        failure: Failure | None = None,
        due_at_block: int = 0,
        deadline_hash: str | None = None,
        also: Also | None = None,
    ) -> None:
        """Move the task to `to` and give the lease back, all in one transaction with `also`. Raises LeaseLost and LedgerConflict."""
        now = self._clock.now()
        with Session(self._engine) as session, session.begin():
            row = fenced(session, lease)
            if row.state != came_from:
                raise LedgerConflict(f"Task {lease.task_id} is {row.state}, not {came_from}")
            row.state, row.attempts, row.due_at, row.due_at_block = to, 0, 0.0, due_at_block
            row.looked_at_block, row.outages, row.outage_since = None, 0, None
            row.prepared = encode(prepared) if prepared else row.prepared
            row.window = encode(window) if window else row.window
            row.failure = encode(failure) if failure else row.failure
            row.deadline_hash = deadline_hash or row.deadline_hash
            row.lease_owner, row.lease_expires_at = None, 0.0
            if also:
                also(session)
            fields = {"from": came_from.value, "to": to.value, **({"failure": failure.code} if failure else {})}
            record(session, at=now, name="task_advanced", task_id=lease.task_id, fields=fields)

    def set_window(self, lease: Lease, window: Window, *, draw: JsonObject, also: Also) -> None:
        """Fix the blocks of the task without moving it on, so that a crash between deciding and telling changes nothing.

        Args:
            draw: all that went into the draw of the pool.
        """
        with Session(self._engine) as session, session.begin():
            row = fenced(session, lease)
            row.window, row.draw = encode(window), dict(draw)
            also(session)
            record(session, at=self._clock.now(), name="window_set", task_id=lease.task_id, fields=encode(window))

    def postpone(
        self,
        lease: Lease,
        *,
        seconds: float,
        problem: str = "",
        counts: bool = True,
        outage: bool = False,
        looked_at_block: int | None = None,
    ) -> None:
        """Give the lease back and try again later.

        Args:
            counts: False when nothing went wrong.
            outage: chain, hub or network were away, which is not an attempt of ours: it counts neither as one nor as the end of any.
            looked_at_block: what the next claim tells.
        """
        now = self._clock.now()
        with Session(self._engine) as session, session.begin():
            row = fenced(session, lease)
            row.lease_owner, row.lease_expires_at, row.due_at = None, 0.0, now + seconds
            if outage:
                row.attempts, row.outages = row.attempts - 1, row.outages + 1
                row.outage_since = now if row.outage_since is None else row.outage_since
            else:
                row.outages, row.outage_since = 0, None
            if not counts:
                row.attempts = 0
            if looked_at_block is not None:
                row.looked_at_block = looked_at_block
            if problem:
                record(session, at=now, name="task_postponed", task_id=lease.task_id, fields={"problem": problem})


def _due(
    states: Sequence[TaskState], *, block: int, now: float, one_per_customer: bool
) -> tuple[ColumnElement[bool], ...]:
    """What has to be so for a task to be claimed."""
    waits_no_more = (TaskRow.due_at_block <= block, TaskRow.due_at <= now, TaskRow.lease_expires_at <= now)
    return (TaskRow.state.in_(states), *waits_no_more, *([_is_only_one(states, now=now)] if one_per_customer else []))


def _is_only_one(states: Sequence[TaskState], *, now: float) -> ColumnElement[bool]:
    """That no other task of the row's customer is worked on in these states."""
    other = aliased(TaskRow)
    at_work = (other.customer == TaskRow.customer, other.state.in_(states), other.lease_expires_at > now)
    return ~select(other.id).where(*at_work).exists()


def _running(session: Session, customer: str | None) -> int:
    counted = select(func.count()).select_from(TaskRow).where(TaskRow.state.not_in([s for s in TaskState if s.ended]))
    if customer is not None:
        counted = counted.where(TaskRow.customer == customer)
    return session.scalar(counted) or 0
