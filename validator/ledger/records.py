"""The public record: links in one chain, appended in one transaction with what they make public."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Engine, exists, func, select
from sqlalchemy.orm import Session

from gradients.domain.json import canonical
from gradients.domain.seasons import season_of
from gradients.domain.task import TaskState
from gradients.errors import LedgerConflict
from gradients.record.models import FIRST_PREVIOUS, Record
from validator.ledger.outbox import OutboxState
from validator.ledger.rows import JsonColumn, OpenBlobRow, OutboxRow, PlacingRow, RecordRow, SubmissionRow, TaskRow

Seal = Callable[[int, str], Record]  # (seq, digest of the record before it) -> the link


class Page(NamedTuple):
    """Some records as JSON, oldest first, and the newest one's number."""

    contents: Sequence[str]
    last_seq: int


class Landed(NamedTuple):
    """Weights that stand on chain."""

    key: str
    payload: JsonColumn
    sent: JsonColumn
    decided_at_block: int
    receipt: JsonColumn


class Evidence(NamedTuple):
    """What of a task nobody but the public record asks for."""

    salt: bytes
    customer: str
    first_task: str  # of the same customer, among those that are recorded; the task itself when none is
    draw: JsonColumn | None
    deadline_hash: str | None
    reveals: Mapping[str, JsonColumn]  # hotkey -> payload on chain and signed answer
    rules_version: int | None  # None when nobody has a placing


class Records:
    """The chain of one validator."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def append(self, subject: str, seal: Seal, *, opens: Iterable[str] = ()) -> bool:
        """Add the next link unless there is one about `subject`; whether it is new.

        Args:
            opens: digests of the bytes that anybody may have from now on.
        """
        with Session(self._engine) as session, session.begin():
            if session.scalar(select(exists().where(RecordRow.subject == subject))):
                return False
            last = session.scalars(select(RecordRow).order_by(RecordRow.seq.desc()).limit(1)).first()
            record = seal(last.seq + 1, last.sha256) if last else seal(1, FIRST_PREVIOUS)
            content = canonical(record.model_dump(mode="json")).decode()
            session.add(
                RecordRow(seq=record.seq, kind=record.kind, subject=subject, sha256=record.sha256, content=content)
            )
            for sha256 in set(opens):
                if session.get(OpenBlobRow, sha256) is None:
                    session.add(OpenBlobRow(sha256=sha256))
        return True

    def page(self, *, after: int, limit: int, most_bytes: int) -> Page:
        """At most `limit` records behind `after` and, but for the first, at most so many bytes of them."""
        query = select(RecordRow.content).where(RecordRow.seq > after).order_by(RecordRow.seq).limit(limit)
        with Session(self._engine) as session:
            last = session.scalar(select(func.max(RecordRow.seq))) or 0
            contents, size = list[str](), 0
            for content in session.scalars(query).yield_per(1):
                size += len(content)
                if contents and size > most_bytes:
                    break
                contents.append(content)
        return Page(contents, last)

    def one(self, seq: int) -> str | None:
        """A record as JSON."""
        with Session(self._engine) as session:
            row = session.get(RecordRow, seq)
            return row.content if row else None

    def is_open(self, sha256: str) -> bool:
        """Whether anybody may have the bytes with this digest."""
        with Session(self._engine) as session:
            return session.get(OpenBlobRow, sha256) is not None

    def unrecorded_tasks(self) -> list[str]:
        """Ids of scored tasks without a record, in the order in which they were scored."""
        known = exists().where(RecordRow.subject == TaskRow.id)
        scored = select(func.min(PlacingRow.scored_at)).where(PlacingRow.task_id == TaskRow.id).scalar_subquery()
        query = select(TaskRow.id).where(TaskRow.state == TaskState.SCORED, ~known)
        with Session(self._engine) as session:
            return list(session.scalars(query.order_by(scored, TaskRow.id)))

    def seasons(self) -> list[int]:
        """Seasons of the scored tasks (see gradients/domain/seasons.py) whose secret is not in the record."""
        with Session(self._engine) as session:
            blocks = session.scalars(select(PlacingRow.deadline_block).distinct())
            known = set(session.scalars(select(RecordRow.subject).where(RecordRow.kind == "season")))
            return sorted({season for block in blocks if f"season:{(season := season_of(block))}" not in known})

    def unrecorded_weights(self) -> list[Landed]:
        """Weights that stand on chain without a record, oldest first."""
        known = exists().where(RecordRow.subject == OutboxRow.key)
        query = select(OutboxRow).where(OutboxRow.state == OutboxState.DONE, OutboxRow.sent.is_not(None), ~known)
        with Session(self._engine) as session:
            rows = session.scalars(query.order_by(OutboxRow.decided_at_block, OutboxRow.key))
            return [
                Landed(row.key, row.payload, row.sent or {}, row.decided_at_block, row.receipt or {}) for row in rows
            ]

    def evidence(self, task_id: str) -> Evidence:
        """What of a task only its record tells. Raises LedgerConflict when there is no such task."""
        with Session(self._engine) as session:
            row = session.get(TaskRow, task_id)
            if row is None:
                raise LedgerConflict(f"Task {task_id} is gone")
            submissions = session.scalars(select(SubmissionRow).where(SubmissionRow.task_id == task_id))
            reveals = {each.hotkey: each.reveal for each in submissions if each.reveal is not None}
            version = session.scalar(select(PlacingRow.rules_version).where(PlacingRow.task_id == task_id).limit(1))
            recorded = select(RecordRow.subject).join(TaskRow, TaskRow.id == RecordRow.subject)
            of_customer = recorded.where(TaskRow.customer == row.customer).order_by(RecordRow.seq)
            first = session.scalar(of_customer.limit(1))
            return Evidence(row.salt, row.customer, first or row.id, row.draw, row.deadline_hash, reveals, version)
