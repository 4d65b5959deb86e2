"""Who has uploaded which file, and what is still to come. The bytes lie in a folder once; a claim says whose they are, and when they were
last of use. An upload that comes piece by piece holds its announced size until it is whole."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Engine, delete, exists, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gradients.clock import Clock
from validator.ledger.rows import UnfinishedUploadRow, UploadRow


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """An upload that comes piece by piece."""

    id: str
    customer: str
    file_name: str
    size_bytes: int
    sha256: str | None  # as announced
    created_at: float
    touched_at: float
    name: str | None  # of the whole file; None until it is whole


class UnfinishedUploads:
    """Uploads that come piece by piece, until a while after they are whole."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def begin(self, upload: UnfinishedUpload, *, most_bytes: int) -> bool:
        """Write a new one down, unless all of the customer's files would then be larger than `most_bytes`; whether it is there now."""
        with Session(self._engine) as session, session.begin():
            session.add(UnfinishedUploadRow(**{name: getattr(upload, name) for name in UnfinishedUpload.__slots__}))
        with Session(self._engine) as session:  # as `take` does
            if _held_bytes(session, upload.customer) <= most_bytes:
                return True
        self.drop(upload.id)
        return False

    def now(self) -> float:
        """The time by which they expire."""
        return self._clock.now()

    def find(self, customer: str, upload_id: str) -> UnfinishedUpload | None:
        """A customer's upload, or None when there is none of that id."""
        with Session(self._engine) as session:
            row = session.get(UnfinishedUploadRow, upload_id)
            return _unfinished(row) if row is not None and row.customer == customer else None

    def of(self, customer: str, *, sha256: str | None = None) -> Sequence[UnfinishedUpload]:
        """A customer's uploads, newest first; those with an announced sha256 alone when one is given."""
        meant = [UnfinishedUploadRow.customer == customer]
        if sha256 is not None:
            meant.append(UnfinishedUploadRow.sha256 == sha256)
        newest = select(UnfinishedUploadRow).where(*meant)
        newest = newest.order_by(UnfinishedUploadRow.created_at.desc(), UnfinishedUploadRow.id)
        with Session(self._engine) as session:
            return [_unfinished(row) for row in session.scalars(newest)]

    def count(self, customer: str) -> int:
        """How many of a customer's uploads lack bytes."""
        mine = (UnfinishedUploadRow.customer == customer, UnfinishedUploadRow.name.is_(None))
        with Session(self._engine) as session:
            return session.scalar(select(func.count()).select_from(UnfinishedUploadRow).where(*mine)) or 0

    def finished(self, customer: str, *, but_newest: int) -> Sequence[UnfinishedUpload]:
        """A customer's whole uploads, without so many of those that came to their end last."""
        mine = (UnfinishedUploadRow.customer == customer, UnfinishedUploadRow.name.is_not(None))
        latest = select(UnfinishedUploadRow).where(*mine).order_by(UnfinishedUploadRow.touched_at.desc())
        with Session(self._engine) as session:
            return [_unfinished(row) for row in session.scalars(latest.offset(but_newest))]

    def untouched(self, *, since: float) -> Sequence[UnfinishedUpload]:
        """Everybody's to which no byte has come since then."""
        old = select(UnfinishedUploadRow).where(UnfinishedUploadRow.touched_at < since)
        with Session(self._engine) as session:
            return [_unfinished(row) for row in session.scalars(old)]

    def is_known(self, upload_id: str) -> bool:
        """Whether there is such an upload, of whomever."""
        with Session(self._engine) as session:
            return session.get(UnfinishedUploadRow, upload_id) is not None

    def touch(self, upload_id: str) -> None:
        """Note that bytes have come."""
        with Session(self._engine) as session, session.begin():
            mine = update(UnfinishedUploadRow).where(UnfinishedUploadRow.id == upload_id)
            session.execute(mine.values(touched_at=self._clock.now()))

    def finish(self, upload: UnfinishedUpload, name: str) -> None:
        """The upload is whole: its customer has a claim on the file of this name now, in place of the room that was held for it."""
        now = self._clock.now()
        with Session(self._engine) as session, session.begin():
            row = session.get(UnfinishedUploadRow, upload.id, with_for_update=True)
            if row is None or row.name is not None:
                return
            row.name, row.touched_at = name, now
            claim = session.get(UploadRow, (upload.customer, name))
            if claim is None:
                claim = UploadRow(customer=upload.customer, name=name, size_bytes=upload.size_bytes, used_at=now)
                session.add(claim)
            claim.used_at = now

    def drop(self, upload_id: str, *, untouched_since: float = math.inf) -> bool:
        """Forget an upload to which no byte has come since then; whether it was there. What it has become stays its customer's."""
        meant = (UnfinishedUploadRow.id == upload_id, UnfinishedUploadRow.touched_at < untouched_since)
        with Session(self._engine) as session, session.begin():
            dropped = session.scalars(delete(UnfinishedUploadRow).where(*meant).returning(UnfinishedUploadRow.id))
            return dropped.first() is not None


class UploadClaims:
    """Claims of customers on uploaded files, by a file's name."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self.unfinished = UnfinishedUploads(engine, clock)

    def take(self, customer: str, name: str, *, size_bytes: int, most_bytes: int) -> bool:
        """Give the customer a claim, unless all of its files would then be larger than `most_bytes`; whether it has one now.

        Looked at when the claim is written already: of two that don't fit together both may be refused, and never both be taken.
        """
        if self.use(customer, name):
            return True
        with contextlib.suppress(IntegrityError), Session(self._engine) as session, session.begin():  # taken just now
            session.add(UploadRow(customer=customer, name=name, size_bytes=size_bytes, used_at=self._clock.now()))
        if self.held_bytes(customer) <= most_bytes:
            return True
        with Session(self._engine) as session, session.begin():
            session.execute(delete(UploadRow).where(UploadRow.customer == customer, UploadRow.name == name))
        return False

    def use(self, customer: str, name: str) -> bool:
        """Note that a claim is of use now; whether the customer has one."""
        mine = (UploadRow.customer == customer, UploadRow.name == name)
        with Session(self._engine) as session, session.begin():
            touched = session.scalars(
                update(UploadRow).where(*mine).values(used_at=self._clock.now()).returning(UploadRow.name)
            )
            return touched.first() is not None

    def held_bytes(self, customer: str) -> int:
        """The size of all files of a customer, with what is announced of unfinished ones."""
        with Session(self._engine) as session:
            return _held_bytes(session, customer)

    def is_claimed(self, name: str) -> bool:
        """Whether anybody has a claim on a file."""
        with Session(self._engine) as session:
            return bool(session.scalar(select(exists().where(UploadRow.name == name))))

    def is_used(self, name: str, *, since: float) -> bool:
        """Whether anybody's claim on a file has been of use since then."""
        with Session(self._engine) as session:
            return bool(session.scalar(select(exists().where(UploadRow.name == name, UploadRow.used_at >= since))))

    def drop(self, *, unused_since: float) -> None:
        """End all claims that were of no use since then; uploads in pieces that have become what they name are forgotten with them."""
        whole = UnfinishedUploadRow.name.is_not(None)
        with Session(self._engine) as session, session.begin():
            session.execute(delete(UploadRow).where(UploadRow.used_at < unused_since))
            session.execute(delete(UnfinishedUploadRow).where(whole, ~_is_claimed()))


def _held_bytes(session: Session, customer: str) -> int:
    claimed = select(func.coalesce(func.sum(UploadRow.size_bytes), 0)).where(UploadRow.customer == customer)
    mine = (UnfinishedUploadRow.customer == customer, UnfinishedUploadRow.name.is_(None))
    announced = select(func.coalesce(func.sum(UnfinishedUploadRow.size_bytes), 0)).where(*mine)
    return int(session.scalar(claimed) or 0) + int(session.scalar(announced) or 0)


def _is_claimed() -> ColumnElement[bool]:
    """Whether an upload's customer has a claim on what it has become."""
    mine = (UploadRow.customer == UnfinishedUploadRow.customer, UploadRow.name == UnfinishedUploadRow.name)
    return exists().where(*mine).correlate(UnfinishedUploadRow)


def _unfinished(row: UnfinishedUploadRow) -> UnfinishedUpload:
    return UnfinishedUpload(**{name: getattr(row, name) for name in UnfinishedUpload.__slots__})
