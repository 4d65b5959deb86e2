"""Idempotency keys of posted tasks: who asks again with the same key gets the task that the first request made."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Engine, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gradients.clock import Clock
from gradients.domain.task import TaskId
from gradients.errors import LedgerConflict
from validator.ledger.rows import IdempotencyKeyRow
from validator.ledger.tasks import Also

KEPT_SECONDS = 86_400.0


class Answered(NamedTuple):
    """What a key has brought before."""

    task_id: TaskId
    body_sha256: str  # of the request, as hex


class IdempotencyKeys:
    """Each customer's keys, for a day."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def find(self, customer: str, key: str) -> Answered | None:
        """What a customer's key has brought within the last day, or None."""
        mine = (IdempotencyKeyRow.customer == customer, IdempotencyKeyRow.key == key)
        young = IdempotencyKeyRow.used_at > self._clock.now() - KEPT_SECONDS
        with Session(self._engine) as session:
            row = session.scalar(select(IdempotencyKeyRow).where(*mine, young))
            return Answered(TaskId(row.task_id), row.body_sha256) if row else None

    def keep(self, customer: str, key: str, answered: Answered) -> Also:
        """Writes the key down in the transaction that makes its task. Raises LedgerConflict when another request has just used it."""

        def write(session: Session) -> None:
            now = self._clock.now()
            session.execute(delete(IdempotencyKeyRow).where(IdempotencyKeyRow.used_at <= now - KEPT_SECONDS))
            session.add(IdempotencyKeyRow(customer=customer, key=key, **answered._asdict(), used_at=now))
            try:
                session.flush()
            except IntegrityError as error:  # waits for the other transaction, so what that one made can be seen now
                raise LedgerConflict(f"The idempotency key {key[:64]} was used just now") from error

        return write
