"""Signing in with an API key, and what a customer has here."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from gradients.domain.customer import Scope
from validator.pages.dependencies import AnyVisitor, Form, OwnForm, PagesBehind, SignedIn, first, read_form, show
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
    found = pages.api.ledger.customers.find(key)
    if found is None or Scope.READ not in found.scopes:
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
def account(pages: PagesBehind, visitor: AnyVisitor, customer: SignedIn) -> HTMLResponse:
    """A customer's keys, quota and tasks."""
    ledger, uploads = pages.api.ledger, pages.api.uploads
    return show(
        pages,
        visitor,
        "account.html",
        keys=ledger.customers.keys_of(customer),
        now=ledger.customers.now(),
        most_tasks=pages.api.quotas.running_tasks,
        held_bytes=ledger.uploads.held_bytes(customer),
        most_bytes=uploads.max_bytes_per_customer,
        most_file_bytes=uploads.max_bytes,
        states=ledger.overview.states(customer=customer),
    )
