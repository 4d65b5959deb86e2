"""Signing in with an API key, and what a customer has here."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from gradients.client.account import NewKey
from gradients.domain.customer import Scope
from gradients.domain.json import Json
from validator.api import key_routes
from validator.pages.dependencies import (
    Admin,
    AnyVisitor,
    Form,
    OwnForm,
    Pages,
    PagesBehind,
    Reader,
    Visitor,
    first,
    read_form,
    show,
)
from validator.pages.fields import filled_in
from validator.pages.sessions import HOURS, check_origin, local_path

router = APIRouter(include_in_schema=False)


@router.get("/sign-in")
def ask(pages: PagesBehind, visitor: AnyVisitor, then: Annotated[str, Query()] = "/") -> HTMLResponse:
    """Where a key is given."""
    return show(pages, visitor, "sign_in.html", then=local_path(then), refused=False, hours=HOURS)


@router.post("/sign-in")
def sign_in(
    request: Request, pages: PagesBehind, visitor: AnyVisitor, form: Annotated[Form, Depends(read_form)]
) -> Response:
    """A session, for a key that opens something."""
    check_origin(request)
    key, then = first(form, "key").strip(), local_path(first(form, "then", "/"))
    if pages.api.ledger.customers.of_key(key) is None:
        return show(pages, visitor, "sign_in.html", status=401, then=then, refused=True, hours=HOURS)
    answer = RedirectResponse(then, status_code=303)
    pages.sessions.sign_in(request, answer, key)
    return answer


@router.post("/sign-out")
def sign_out(request: Request, pages: PagesBehind, _: OwnForm) -> Response:
    """The end of a session."""
    answer = RedirectResponse("/", status_code=303)
    pages.sessions.sign_out(request, answer)
    return answer


@router.get("/account")
def account(pages: PagesBehind, visitor: AnyVisitor, customer: Reader) -> HTMLResponse:
    """A customer's keys, quota and tasks."""
    return _account(pages, visitor, customer)


@router.post("/account/keys")
async def make_key(pages: PagesBehind, visitor: AnyVisitor, customer: Admin, form: OwnForm) -> HTMLResponse:
    """A new key, which is on this one page and never again."""
    asked: dict[str, Json] = {"name": first(form, "name").strip(), "scopes": list(form.get("scope", ()))}
    days = first(form, "days").strip()
    wanted = filled_in(NewKey, {**asked, **({"expires_in_days": days} if days else {})}, whole="key")
    made = await key_routes.make_key(wanted, pages.api, customer)
    return await asyncio.to_thread(_account, pages, visitor, customer, made.key)


@router.post("/account/keys/{key_id}/revoke")
async def revoke_key(key_id: str, pages: PagesBehind, customer: Admin, _: OwnForm) -> RedirectResponse:
    """A key that opens nothing from now on; the session's own may be the one."""
    await key_routes.revoke_key(key_id, pages.api, customer)
    return RedirectResponse("/account", status_code=303)


def _account(pages: Pages, visitor: Visitor, customer: str, made: str | None = None) -> HTMLResponse:
    ledger, uploads = pages.api.ledger, pages.api.uploads
    return show(
        pages,
        visitor,
        "account.html",
        active="/account",
        made=made,
        now=ledger.customers.now(),
        keys=ledger.customers.keys_of(customer),
        scopes=list(Scope),
        running=ledger.tasks.running(customer=customer),
        most_running=pages.api.quotas.running_tasks,
        per_minute=pages.api.rates.per_minute,
        held_bytes=ledger.uploads.held_bytes(customer),
        most_bytes=uploads.max_bytes_per_customer,
        most_file_bytes=uploads.max_bytes,
        states=ledger.overview.states(customer=customer),
    )
