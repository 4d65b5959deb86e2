"""API keys: shown once when made, kept as digests."""

from __future__ import annotations

import hashlib
import secrets

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from gradients.clock import Clock
from validator.ledger.rows import ApiKeyRow

PREFIX = "gr_"


class Customers:
    """Who may post tasks."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def issue(self, customer: str) -> str:
        """A new key of `customer`; it cannot be read again."""
        key = PREFIX + secrets.token_urlsafe(32)
        with Session(self._engine) as session, session.begin():
            session.add(ApiKeyRow(sha256=_digest(key), customer=customer, created_at=self._clock.now()))
        return key

    def of_key(self, key: str) -> str | None:
        """The customer that a key belongs to, or None for an unknown or revoked key."""
        with Session(self._engine) as session:
            row = session.get(ApiKeyRow, _digest(key))
            return row.customer if row and row.revoked_at is None else None

    def revoke(self, key: str) -> bool:
        """Make a key useless; whether there was such a key."""
        with Session(self._engine) as session, session.begin():
            row = session.get(ApiKeyRow, _digest(key))
            if row is not None:
                row.revoked_at = self._clock.now()
            return row is not None


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
