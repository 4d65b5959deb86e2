"""Chain calls that were decided on. The row is written before the call, so a crash can neither lose nor repeat one.

PENDING --mark_sent--> SENT --finish--> DONE
   ^──────refused─────────┤
   └──────────────────────┴──give_up--> DROPPED   (its time is over, or the chain refused for good)

Several processes may hold the same row in their hands: whoever changes it says what it has seen, and changes nothing when that is old.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from gradients.clock import Clock
from gradients.domain.json import JsonObject
from validator.ledger.events import record
from validator.ledger.rows import OutboxRow


class OutboxState(StrEnum):
    """What is true of a decided call."""

    PENDING = "pending"
    SENT = "sent"
    DONE = "done"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One decided call."""

    key: str
    state: OutboxState
    payload: JsonObject
    decided_at_block: int
    sent_at_block: int | None
    receipt: JsonObject | None
    problem: str
    sent: JsonObject | None = None  # what the last try sent, or would have sent


class Outbox:
    """All decided calls of one validator."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def decide(self, key: str, payload: JsonObject, *, block: int) -> bool:
        """Add a call unless one with this key was decided before; whether it is new."""
        with Session(self._engine) as session, session.begin():
            if session.get(OutboxRow, key) is not None:
                return False
            session.add(OutboxRow(key=key, state=OutboxState.PENDING, payload=dict(payload), decided_at_block=block))
            record(session, at=self._clock.now(), name="call_decided", fields={"key": key})
            return True

    def open(self) -> Sequence[Outgoing]:
        """Calls that are not done, oldest first."""
        wanted = OutboxRow.state.in_([OutboxState.PENDING, OutboxState.SENT])
        with Session(self._engine) as session:
            rows = session.scalars(select(OutboxRow).where(wanted).order_by(OutboxRow.decided_at_block, OutboxRow.key))
            return [_outgoing(row) for row in rows]

    def knows(self, key: str) -> bool:
        """Whether a call with this key was decided before."""
        with Session(self._engine) as session:
            return session.get(OutboxRow, key) is not None

    def last_done(self) -> Outgoing | None:
        """The newest call that the chain has taken."""
        query = select(OutboxRow).where(OutboxRow.state == OutboxState.DONE).order_by(OutboxRow.decided_at_block.desc())
        with Session(self._engine) as session:
            row = session.scalars(query.limit(1)).first()
            return _outgoing(row) if row else None

    def all(self, *, limit: int = 1000) -> Sequence[Outgoing]:
        """Calls of every state, newest first."""
        with Session(self._engine) as session:
            rows = session.scalars(select(OutboxRow).order_by(OutboxRow.decided_at_block.desc()).limit(limit))
            return [_outgoing(row) for row in rows]

    def mark_sent(self, seen: Outgoing, *, block: int, sent: JsonObject | None = None) -> Outgoing | None:
        """To be written before the call goes out, with what it sends. None for whoever was not the first: somebody else sends it."""
        return self._change(
            seen, "call_sent", state=OutboxState.SENT, sent_at_block=block, sent=dict(sent) if sent else None
        )

    def finish(self, seen: Outgoing, receipt: JsonObject) -> Outgoing | None:
        """The chain shows the call's effect."""
        return self._change(seen, "call_done", state=OutboxState.DONE, receipt=dict(receipt))

    def refused(self, seen: Outgoing, problem: str) -> Outgoing | None:
        """The chain said no, and may say yes later."""
        return self._change(seen, "call_refused", state=OutboxState.PENDING, problem=problem)

    def give_up(self, seen: Outgoing, problem: str) -> Outgoing | None:
        """The call is not wanted any more, or was refused for good."""
        return self._change(seen, "call_dropped", state=OutboxState.DROPPED, problem=problem)

    def rehearse(self, seen: Outgoing, sent: JsonObject) -> Outgoing | None:
        """The call is dropped with what it would have sent."""
        return self._change(seen, "call_rehearsed", state=OutboxState.DROPPED, problem="dry run", sent=dict(sent))

    def _change(self, seen: Outgoing, event: str, **fields: object) -> Outgoing | None:
        """The row with its changes, or None when it does not stand as it was seen any more."""
        with Session(self._engine) as session, session.begin():
            row = session.get_one(OutboxRow, seen.key, with_for_update=True)
            if (row.state, row.sent_at_block) != (seen.state, seen.sent_at_block):
                return None
            for name, value in fields.items():
                setattr(row, name, value)
            record(session, at=self._clock.now(), name=event, fields={"key": seen.key})
            return _outgoing(row)


def _outgoing(row: OutboxRow) -> Outgoing:
    state = OutboxState(row.state)
    return Outgoing(
        row.key, state, row.payload, row.decided_at_block, row.sent_at_block, row.receipt, row.problem, row.sent
    )
