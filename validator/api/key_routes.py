"""A customer's own keys and limits over HTTP."""

from __future__ import annotations

import asyncio
from typing import Annotated

import fastapi
from fastapi import APIRouter

from gradients.client.account import Account, ApiKey, KeyList, Limit, MadeKey, NewKey
from gradients.domain.customer import Scope
from validator.api.dependencies import AppDependencies, Customer, NotFound, SentKey, keyed
from validator.api.documented import NOT_FOUND, PREFIX, REFUSALS
from validator.ledger.customers import KnownKey, digest

DAY = 86_400.0
KEYS = "/keys"

reading = APIRouter(prefix=PREFIX, route_class=keyed(Scope.READ), responses=REFUSALS, tags=["account"])
managing = APIRouter(prefix=PREFIX, route_class=keyed(Scope.ADMIN), responses=REFUSALS, tags=["account"])


@reading.get("/account")
async def show_account(dependencies: AppDependencies, key: SentKey) -> Account:
    """Whose key this is, what it may be used for, and how much of each limit is used."""
    ledger, uploads = dependencies.ledger, dependencies.uploads
    running = await asyncio.to_thread(ledger.tasks.running, customer=key.customer)
    held = await asyncio.to_thread(ledger.uploads.held_bytes, key.customer)
    return Account(
        customer=key.customer,
        key=_shown(key),
        running_tasks=Limit(used=running, most=dependencies.quotas.running_tasks),
        upload_bytes=Limit(used=held, most=uploads.max_bytes_per_customer),
        requests_per_minute=dependencies.rates.per_minute,
    )


@managing.get(KEYS)
async def list_keys(dependencies: AppDependencies, customer: Customer) -> KeyList:
    """The customer's keys, without the keys themselves."""
    known = await asyncio.to_thread(dependencies.ledger.customers.keys_of, customer)
    return KeyList(keys=tuple(map(_shown, known)))


@managing.post(KEYS, status_code=201)
async def make_key(wanted: NewKey, dependencies: AppDependencies, customer: Customer) -> MadeKey:
    """Make a key for the same customer; it is shown in this answer, and never again."""
    customers = dependencies.ledger.customers

    def made() -> MadeKey:
        expires_at = customers.now() + wanted.expires_in_days * DAY if wanted.expires_in_days is not None else None
        key = customers.issue(customer, name=wanted.name, scopes=wanted.scopes, expires_at=expires_at)
        [known] = [each for each in customers.keys_of(customer) if each.sha256 == digest(key)]
        return MadeKey(**dict(_shown(known)), key=key)

    return await asyncio.to_thread(made)


@managing.delete(f"{KEYS}/{{key_id}}", responses=NOT_FOUND)
async def revoke_key(
    key_id: Annotated[str, fastapi.Path(description="the key's id, as the list of keys shows it")],
    dependencies: AppDependencies,
    customer: Customer,
) -> ApiKey:
    """Make one of the customer's keys useless, from now on; again, it stays so. The key that is used for it may be the one."""
    revoked = await asyncio.to_thread(dependencies.ledger.customers.revoke_by_id, customer, key_id)
    if revoked is None:
        raise NotFound(f"There is no key {key_id}", fix="GET /v1/keys lists yours")
    return _shown(revoked)


def _shown(key: KnownKey) -> ApiKey:
    return ApiKey(
        id=key.id,
        name=key.name,
        scopes=key.scopes,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
    )
