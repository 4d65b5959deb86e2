"""The append-only record of what happened. An event is written in the transaction that makes it true."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Engine, func, literal, select
from sqlalchemy.orm import Session

from gradients.clock import Clock
from gradients.domain.json import JsonObject
from gradients.errors import LedgerConflict
from validator.ledger.rows import EventRow, TaskRow


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    id: int
    at: float
    task_id: str | None
    name: str
    fields: JsonObject


def record(
    session: Session, *, at: float, name: str, task_id: str | None = None, fields: JsonObject | None = None
) -> None:
    """Add an event to the running transaction."""
    session.add(EventRow(at=at, task_id=task_id, name=name, fields=dict(fields or {})))


class Events:
    """The record, and what happens to no row of another table."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def add(self, name: str, *, task_id: str, fields: JsonObject) -> None:
        """Write down something that changes nothing else, such as what people have said of a task."""
        with Session(self._engine) as session, session.begin():
            record(session, at=self._clock.now(), name=name, task_id=task_id, fields=fields)

    def add_once(self, name: str, *, task_id: str, fields: JsonObject, by: str) -> None:
        """Write an event down, if the task has none of this name with the same value of the field `by`. Raises LedgerConflict otherwise.

        However many try at the same moment, one does: whoever holds the task's row looks and writes, and SQLite has one writer anyway.
        """
        same_name = select(EventRow).where(EventRow.task_id == task_id, EventRow.name == name)
        with Session(self._engine) as session, session.begin():
            session.get_one(TaskRow, task_id, with_for_update=True)
            if any(row.fields.get(by) == fields[by] for row in session.scalars(same_name)):
                raise LedgerConflict(f"Task {task_id} has its {name} of this {by} already")
            record(session, at=self._clock.now(), name=name, task_id=task_id, fields=fields)

    def of_task(self, task_id: str, *, name: str | None = None) -> Sequence[Event]:
        """A task's events, oldest first; all, or those of one name."""
        query = select(EventRow).where(EventRow.task_id == task_id).order_by(EventRow.id)
        if name is not None:
            query = query.where(EventRow.name == name)
        with Session(self._engine) as session:
            return [_event(row) for row in session.scalars(query)]

    def after(self, task_id: str, last_id: int, *, limit: int = 1000) -> Sequence[Event]:
        """A task's events behind the one with this id, oldest first. Whoever asks may name any id."""
        place = literal(last_id, BigInteger)
        behind = select(EventRow).where(EventRow.task_id == task_id, EventRow.id > place)
        with Session(self._engine) as session:
            return [_event(row) for row in session.scalars(behind.order_by(EventRow.id).limit(limit))]

    def last(self, task_id: str) -> int:
        """Id of a task's newest event; 0 without any."""
        with Session(self._engine) as session:
            return session.scalar(select(func.max(EventRow.id)).where(EventRow.task_id == task_id)) or 0

    def times(self, name: str, task_ids: Collection[str]) -> dict[str, float]:
        """Task -> when an event of this name happened to it first, of those to which it has."""
        first = select(EventRow.task_id, func.min(EventRow.at)).where(EventRow.name == name)
        with Session(self._engine) as session:
            found = session.execute(first.where(EventRow.task_id.in_(task_ids)).group_by(EventRow.task_id))
            return {task_id: at for task_id, at in found if task_id is not None}


def _event(row: EventRow) -> Event:
    return Event(row.id, row.at, row.task_id, row.name, row.fields)
