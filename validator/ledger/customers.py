"""API keys: shown once when made, kept as digests; and the one that commands on the validator's own machine use."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from gradients.clock import Clock
from gradients.domain.customer import USUAL_SCOPES, Scope
from gradients.files.whole import write_text
from validator.ledger.rows import ApiKeyRow

PREFIX = "gr_"
LOCAL_CUSTOMER = "local"
ID_DIGITS = 16  # of the digest: enough to tell a customer's keys apart, and of no use to whoever has it


@dataclass(frozen=True, slots=True)
class KnownKey:
    """What is known of a key without having it."""

    sha256: str
    customer: str
    name: str  # for people
    scopes: tuple[Scope, ...]
    created_at: float
    expires_at: float | None
    revoked_at: float | None

    @property
    def id(self) -> str:
        """What it is called when it is listed or revoked."""
        return self.sha256[:ID_DIGITS]


class Customers:
    """Who may post tasks."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def issue(
        self,
        customer: str,
        *,
        name: str = "",
        scopes: Collection[Scope] = USUAL_SCOPES,
        expires_at: float | None = None,
    ) -> str:
        """A new key of `customer`; it cannot be read again."""
        key = PREFIX + secrets.token_urlsafe(32)
        row = ApiKeyRow(
            sha256=digest(key),
            customer=customer,
            created_at=self._clock.now(),
            name=name,
            scopes=" ".join(scope for scope in Scope if scope in scopes),
            expires_at=expires_at,
        )
        with Session(self._engine) as session, session.begin():
            session.add(row)
        return key

    def now(self) -> float:
        """The time by which keys expire."""
        return self._clock.now()

    def find(self, key: str) -> KnownKey | None:
        """What a key opens, or None for one that is unknown, revoked or past its time."""
        with Session(self._engine) as session:
            row = session.get(ApiKeyRow, digest(key))
            if row is None or row.revoked_at is not None:
                return None
            return _known(row) if row.expires_at is None or self._clock.now() < row.expires_at else None

    def of_key(self, key: str) -> str | None:
        """The customer that a key belongs to, or None for one that opens nothing."""
        found = self.find(key)
        return found.customer if found else None

    def keys_of(self, customer: str) -> list[KnownKey]:
        """A customer's keys, the newest first, and those that open nothing any more among them."""
        query = select(ApiKeyRow).where(ApiKeyRow.customer == customer)
        with Session(self._engine) as session:
            return [
                _known(row) for row in session.scalars(query.order_by(ApiKeyRow.created_at.desc(), ApiKeyRow.sha256))
            ]

    def customers(self) -> list[str]:
        """Everybody who has or had a key, by name."""
        with Session(self._engine) as session:
            return list(session.scalars(select(ApiKeyRow.customer).distinct().order_by(ApiKeyRow.customer)))

    def revoke(self, key: str) -> str | None:
        """Make a key useless; the customer that it belonged to, or None for a key that opens nothing anyway."""
        with Session(self._engine) as session, session.begin():
            row = session.get(ApiKeyRow, digest(key))
            if row is None or row.revoked_at is not None:
                return None
            row.revoked_at = self._clock.now()
            return row.customer

    def revoke_by_id(self, customer: str, key_id: str) -> KnownKey | None:
        """Make a customer's key useless, again and again if need be; None when the customer has none of that id."""
        with Session(self._engine) as session, session.begin():
            rows = session.scalars(select(ApiKeyRow).where(ApiKeyRow.customer == customer))
            row = next((row for row in rows if _known(row).id == key_id), None)
            if row is None:
                return None
            row.revoked_at = row.revoked_at or self._clock.now()
            return _known(row)


def _known(row: ApiKeyRow) -> KnownKey:
    scopes = tuple(Scope(scope) for scope in row.scopes.split())
    return KnownKey(row.sha256, row.customer, row.name, scopes, row.created_at, row.expires_at, row.revoked_at)


def keep_local_key(customers: Customers, file: Path) -> None:
    """Make a key for this machine unless `file` holds one that opens everything; only the owner may read it."""
    if file.is_file() and (found := customers.find(file.read_text(encoding="utf-8").strip())):
        if set(found.scopes) == set(Scope):
            return
        customers.revoke_by_id(found.customer, found.id)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, customers.issue(LOCAL_CUSTOMER, name="this machine", scopes=tuple(Scope)), mode=0o600)


def digest(key: str) -> str:
    """What is kept of a key, as hex."""
    return hashlib.sha256(key.encode()).hexdigest()
