"""The append-only record of what happened. An event is written in the transaction that makes it true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from gradients.domain.json import JsonObject
from validator.ledger.rows import EventRow


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
    """Reading the record."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def of_task(self, task_id: str) -> Sequence[Event]:
        """A task's events, oldest first."""
        with Session(self._engine) as session:
            rows = session.scalars(select(EventRow).where(EventRow.task_id == task_id).order_by(EventRow.id))
            return [Event(row.id, row.at, row.task_id, row.name, row.fields) for row in rows]
