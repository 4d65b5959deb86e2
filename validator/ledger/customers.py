"""API keys: shown once when made, kept as digests; and the one that commands on the validator's own machine use."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from gradients.clock import Clock
from gradients.files.whole import write_text
from validator.ledger.rows import ApiKeyRow

PREFIX = "gr_"
LOCAL_CUSTOMER = "local"


@dataclass(frozen=True, slots=True)
class KnownKey:
    """What is known of a key without having it."""

    sha256: str
    created_at: float
    revoked_at: float | None


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

    def keys_of(self, customer: str) -> list[KnownKey]:
        """A customer's keys, the newest first."""
        query = select(ApiKeyRow).where(ApiKeyRow.customer == customer).order_by(ApiKeyRow.created_at.desc())
        with Session(self._engine) as session:
            return [KnownKey(row.sha256, row.created_at, row.revoked_at) for row in session.scalars(query)]

    def revoke(self, key: str) -> str | None:
        """Make a key useless; the customer that it belonged to, or None for a key that opens nothing anyway."""
        with Session(self._engine) as session, session.begin():
            row = session.get(ApiKeyRow, _digest(key))
            if row is None or row.revoked_at is not None:
                return None
            row.revoked_at = self._clock.now()
            return row.customer


def keep_local_key(customers: Customers, file: Path) -> None:
    """Make a key for this machine unless `file` holds one that works; only the owner may read it."""
    if file.is_file() and customers.of_key(file.read_text(encoding="utf-8").strip()):
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, customers.issue(LOCAL_CUSTOMER), mode=0o600)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
