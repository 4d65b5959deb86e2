"""Posting a task by form: the fields of its type, an estimate beside them, and rows from a hub, a URL or an upload."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from gradients.bases.continued import base_after
from gradients.client.estimates import EstimateSpec
from gradients.client.models import PostedSpec
from gradients.client.rewards import MOST_ANSWERS, MOST_ROWS
from gradients.datasets.sources import sources_from
from gradients.domain.json import Json
from gradients.errors import CustomerError
from gradients.tasks.base import TaskType
from gradients.tasks.registry import LONGEST_REQUEST_HOURS, TYPES, TaskSpec, all_types, task_type
from validator.api import task_routes as api
from validator.api.posting import body_digest
from validator.api.posting import post as post_once
from validator.api.refusals import STATUS_OF_BLAME, STATUS_OF_ERROR
from validator.api.routes import UPLOAD_PATH
from validator.pages.dependencies import AnyVisitor, Form, OwnForm, Pages, PagesBehind, Submitter, Visitor, first, show
from validator.pages.fields import fields_of, filled_in, parameters_from
from validator.pages.rewards import example_rows

Spec = TypeVar("Spec", bound=TaskSpec)

router = APIRouter(include_in_schema=False, prefix="/new")


@router.get("")
def form(
    pages: PagesBehind,
    visitor: AnyVisitor,
    _: Submitter,
    type: str = "",  # noqa: A002 (in the URL)
    continues: str = "",
) -> HTMLResponse:
    """An empty form of a type; of the usual one unless it is named. `continues` fills in another task's model as the base."""
    filled = {"base": [base_after(continues)], "private": ["on"]} if continues else {}
    return _form(pages, visitor, task_type(type if type in TYPES else _usual()), filled)


@router.post("")
async def post(pages: PagesBehind, visitor: AnyVisitor, customer: Submitter, form: OwnForm) -> Response:
    """Post the task and go to its page; a form that cannot be used is shown again with what is wrong."""
    kind = _type_of(form)
    try:
        spec = _spec(form, kind, PostedSpec)
        task, _ = await asyncio.to_thread(post_once, spec, pages.api, customer, key=_key_of(form, spec))
    except CustomerError as error:
        status = STATUS_OF_ERROR.get(type(error), STATUS_OF_BLAME[error.blame])
        return await asyncio.to_thread(_form, pages, visitor, kind, form, problem=error, status=status)
    return RedirectResponse(f"/tasks/{task.id}", status_code=303)


@router.post("/estimate")
async def estimate(pages: PagesBehind, visitor: AnyVisitor, customer: Submitter, form: OwnForm) -> HTMLResponse:
    """What the task would take, as a part of the page; the budget that was filled in plays no part."""
    try:
        spec = _spec({**form, "hours": [str(LONGEST_REQUEST_HOURS)]}, _type_of(form), EstimateSpec)
        found = await api.estimate_task(spec, pages.api, customer)
    except CustomerError as error:
        return show(pages, visitor, "estimate.html", found=None, problem=error)
    return show(pages, visitor, "estimate.html", found=found, problem=None)


@router.post(UPLOAD_PATH)
async def upload(request: Request, pages: PagesBehind, customer: Submitter, name: str) -> JSONResponse:
    """A file for the form; the answer names it as a data set. It comes as a stream, so its token is a header."""
    pages.sessions.check_form(request, request.headers.get("x-csrf-token", ""))
    dataset = await pages.api.uploads.receive(Path(name).name, request.stream(), customer=customer)
    return JSONResponse({"dataset": dataset}, status_code=201)


def _key_of(form: Form, spec: PostedSpec) -> str | None:
    """Two clicks, or a page that is loaded again, post one task; the same form with another task in it posts that."""
    shown = first(form, "shown")
    return f"{shown[:64]}/{body_digest(spec)}" if shown else None


def _usual() -> str:
    """The type that is asked for most, by what the types declare."""
    return max(all_types(), key=lambda kind: kind.schedule_share).name


def _type_of(form: Form) -> TaskType:
    return task_type(first(form, "type"))


def _spec(form: Form, kind: TaskType, model: type[Spec]) -> Spec:
    """The spec of a form. Raises TaskInvalid."""
    hours, source = first(form, "hours").strip(), first(form, "dataset").strip()
    spec: dict[str, Json] = {
        "type": kind.name,
        "base": first(form, "base").strip(),
        "dataset": sources_from(source.splitlines()),
        "hours": hours,
        "private": "private" in form,
        "parameters": parameters_from(form, fields_of(kind)),
    }
    return filled_in(model, spec, whole="task")


def _form(
    pages: Pages,
    visitor: Visitor,
    kind: TaskType,
    filled: Form,
    *,
    problem: CustomerError | None = None,
    status: int = 200,
) -> HTMLResponse:
    groups: dict[str, list[object]] = {}
    for field in fields_of(kind):
        groups.setdefault(field.group, []).append(field)
    return show(
        pages,
        visitor,
        "new.html",
        status=status,
        kind=kind,
        types=all_types(),
        bases=pages.api.estimates.bases.names(),
        groups=groups,
        filled={name: values[0] for name, values in filled.items() if values},
        sent=bool(filled),
        shown=secrets.token_hex(16),
        problem=problem,
        most_hours=LONGEST_REQUEST_HOURS,
        example_rows=example_rows(kind),
        most_rows=MOST_ROWS,
        most_answers=MOST_ANSWERS,
    )
