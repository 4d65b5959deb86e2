"""Who has uploaded which file. The bytes lie in a folder once; a claim says whose they are, and when they were last of use."""

from __future__ import annotations

import contextlib

from sqlalchemy import Engine, delete, exists, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gradients.clock import Clock
from validator.ledger.rows import UploadRow


class UploadClaims:
    """Claims of customers on uploaded files, by a file's name."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

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
        """The size of all files of a customer."""
        total = select(func.coalesce(func.sum(UploadRow.size_bytes), 0)).where(UploadRow.customer == customer)
        with Session(self._engine) as session:
            return int(session.scalar(total) or 0)

    def is_claimed(self, name: str) -> bool:
        """Whether anybody has a claim on a file."""
        with Session(self._engine) as session:
            return bool(session.scalar(select(exists().where(UploadRow.name == name))))

    def is_used(self, name: str, *, since: float) -> bool:
        """Whether anybody's claim on a file has been of use since then."""
        with Session(self._engine) as session:
            return bool(session.scalar(select(exists().where(UploadRow.name == name, UploadRow.used_at >= since))))

    def drop(self, *, unused_since: float) -> None:
        """End all claims that were of no use since then."""
        with Session(self._engine) as session, session.begin():
            session.execute(delete(UploadRow).where(UploadRow.used_at < unused_since))
