"""What the pages' routes work with, and who is looking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Protocol, cast
from urllib.parse import parse_qsl, quote

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from gradients.chain.view import ChainView
from gradients.domain.customer import Scope
from gradients.domain.task import Task
from gradients.errors import TaskInvalid
from gradients.execution.job import Executor
from gradients.web.curves import Point
from gradients.web.site import Site
from validator.api.dependencies import Dependencies, NotFound, admit
from validator.ledger.customers import KnownKey
from validator.pages.sessions import Sessions
from validator.settings import PagesSettings

MOST_FIELDS = 300  # of one form


class Curves(Protocol):
    """Training losses, as miners have told them."""

    def curves(self, task_id: str) -> Mapping[str, Sequence[Point]]:
        """Hotkey -> losses by step. Blocking."""
        ...


@dataclass(frozen=True, slots=True)
class Pages:
    """Everything behind the pages."""

    site: Site
    api: Dependencies
    sessions: Sessions
    view: ChainView
    curves: Curves
    workers: Executor  # of the box where a model is tried
    settings: PagesSettings
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # of trying: one at a time


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever looks at a page."""

    key: KnownKey | None  # by which one has signed in
    csrf: str
    path: str

    @property
    def customer(self) -> str | None:
        """Who has signed in."""
        return self.key.customer if self.key else None

    def may(self, scope: str) -> bool:
        """Whether the visitor's key has a scope."""
        return self.key is not None and scope in self.key.scopes

    def owns(self, pages: Pages, task: Task) -> bool:
        """Whether the task is this visitor's own. Blocking."""
        return self.customer is not None and pages.api.ledger.tasks.customer_of(task.id) == self.customer


def pages_of(request: Request) -> Pages:
    """What the pages were added with."""
    return cast(Pages, request.app.state.pages)  # starlette's state carries no types


PagesBehind = Annotated[Pages, Depends(pages_of)]


def visitor_of(request: Request, pages: PagesBehind) -> Visitor:
    """Who looks, by the session's key as it stands in the ledger now."""
    secret = pages.sessions.key_of(request)
    key = pages.api.ledger.customers.find(secret) if secret else None
    return Visitor(key, pages.sessions.csrf_token(request), request.url.path)


AnyVisitor = Annotated[Visitor, Depends(visitor_of)]


def customer_who_may(scope: Scope) -> Callable[..., str]:
    """A dependency: the customer that is signed in by a key of the scope; whoever is not signed in is led to where one does."""

    def customer(request: Request, pages: PagesBehind, visitor: AnyVisitor) -> str:
        if visitor.key is None:
            path = request.url.path if request.method == "GET" else "/"
            raise HTTPException(303, "Sign in first", headers={"Location": f"/sign-in?then={quote(path)}"})
        admit(pages.api, visitor.key, scope)
        return visitor.key.customer

    return customer


Reader = Annotated[str, Depends(customer_who_may(Scope.READ))]
Submitter = Annotated[str, Depends(customer_who_may(Scope.SUBMIT))]
Admin = Annotated[str, Depends(customer_who_may(Scope.ADMIN))]
Form = Mapping[str, Sequence[str]]


async def read_form(request: Request) -> dict[str, list[str]]:
    """A form's fields, each with all of its values. Raises TaskInvalid for what is not a form."""
    try:
        text = (await request.body()).decode()
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise TaskInvalid(f"The form cannot be read: {error}", fix="Load the page again") from error
    form: dict[str, list[str]] = {}
    for name, value in pairs:
        form.setdefault(name, []).append(value)
    return form


async def own_form(request: Request, pages: PagesBehind) -> Form:
    """A form that was made for this session. Raises FormRefused."""
    form = await read_form(request)
    pages.sessions.check_form(request, first(form, "csrf"))
    return form


OwnForm = Annotated[Form, Depends(own_form)]


def first(form: Form, name: str, default: str = "") -> str:
    """The first value of a field."""
    return next(iter(form.get(name, ())), default)


def task_in_path(task_id: str, pages: PagesBehind) -> Task:
    """The task of a page."""
    task = pages.api.ledger.tasks.find(task_id)
    if task is None:
        raise NotFound(f"There is no task {task_id}", fix="The list of tasks shows what there is")
    return task


TaskInPath = Annotated[Task, Depends(task_in_path)]


def task_of_customer(task: TaskInPath, pages: PagesBehind, visitor: AnyVisitor, _: Reader) -> Task:
    """The task, when it is the visitor's own; of others' it is said that there is none."""
    if not visitor.owns(pages, task):
        raise NotFound(f"There is no task {task.id} of yours", fix="The list of tasks shows what there is")
    return task


OwnTask = Annotated[Task, Depends(task_of_customer)]


def show(
    pages: Pages,
    visitor: Visitor,
    template: str,
    *,
    status: int = 200,
    active: str = "",
    values: Mapping[str, object] | None = None,
    **more: object,
) -> HTMLResponse:
    """A page for a visitor, with the values that its template names."""
    shown = {**(values or {}), **more}
    return pages.site.page(template, status=status, visitor=visitor, active=active or visitor.path, **shown)
