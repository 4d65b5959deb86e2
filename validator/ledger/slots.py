"""Which slots of the schedule have had their task. A slot is taken in the transaction that creates the task, so it is taken once."""

from __future__ import annotations

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gradients.errors import LedgerConflict
from validator.ledger.rows import SlotRow


class Slots:
    """All slots that were taken, by this process or another one on the same ledger."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def taken(self, slot: int) -> bool:
        """Whether the slot has had its task."""
        with Session(self._engine) as session:
            return session.get(SlotRow, slot) is not None


def take_slot(session: Session, slot: int, task_id: str) -> None:
    """Take a slot in the running transaction. Raises LedgerConflict when somebody was quicker."""
    session.add(SlotRow(slot=slot, task_id=task_id))
    try:
        session.flush()
    except IntegrityError as error:
        raise LedgerConflict(f"Slot {slot} of the schedule has had its task", code="slot_taken") from error
