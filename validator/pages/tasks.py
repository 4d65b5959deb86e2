"""Tasks: the list, one of them while it runs and after, and the models that came of it."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Annotated, NamedTuple, cast

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import JsonValue

from gradients.client.models import TaskDetails
from gradients.datasets.sources import MERGED, name_of, parts_of
from gradients.domain.json import JsonObject
from gradients.domain.task import Task, TaskState
from gradients.tasks.registry import TYPES, all_types, task_type
from gradients.web.curves import chart
from gradients.web.site import short
from validator.api import routes as api
from validator.api import task_routes
from validator.ledger.listing import Place, TaskFilter
from validator.ledger.tasks import CANCELLABLE
from validator.pages.dependencies import (
    AnyVisitor,
    OwnForm,
    OwnTask,
    Pages,
    PagesBehind,
    Submitter,
    TaskInPath,
    Visitor,
    show,
)
from validator.pages.figures import comparison, for_everybody, png_size, progress_of
from validator.pages.trying import can_try, votes_of

LISTED = 50
LONGEST_SEARCH = 256
STEPS = tuple(state for state in TaskState if state not in (TaskState.FAILED, TaskState.CANCELLED))

router = APIRouter(include_in_schema=False, prefix="/tasks")


@router.get("")
def listing(
    pages: PagesBehind,
    visitor: AnyVisitor,
    state: str = "",
    kind: Annotated[str, Query(alias="type")] = "",
    search: str = "",
    mine: str = "",
    before: str = "",
) -> HTMLResponse:
    """A page of tasks, newest first; filters that name nothing leave everything in."""
    wanted = TaskFilter(
        states=tuple(each for each in TaskState if each == state),
        type=kind if kind in TYPES else None,
        search=search[:LONGEST_SEARCH] or None,
    )
    customer = visitor.customer if mine == "true" else None
    found = pages.api.ledger.tasks.page(customer, wanted, limit=LISTED, after=_place(before))
    return show(
        pages,
        visitor,
        "tasks.html",
        tasks=pages.api.board.summaries(found.tasks),
        types=all_types(),
        states=list(TaskState),
        asked={"state": state, "type": kind, "search": search, "mine": "true" if customer else ""},
        more=f"{found.next.created_at!r}/{found.next.task_id}" if found.next else "",
    )


@router.get("/{task_id}")
def one(task: TaskInPath, pages: PagesBehind, visitor: AnyVisitor) -> HTMLResponse:
    """A task: everything for its customer, and for others what gives nobody an advantage."""
    return show(pages, visitor, "task.html", active="/tasks", values=task_values(pages, visitor, task))


@router.post("/{task_id}/cancel")
async def cancel(task: OwnTask, pages: PagesBehind, _: Submitter, form: OwnForm) -> RedirectResponse:
    """Take a task back."""
    await task_routes.cancel_task(task, pages.api)
    return RedirectResponse(f"/tasks/{task.id}", status_code=303)


@router.get("/{task_id}/models/{hotkey}")
async def model(task: OwnTask, hotkey: str, pages: PagesBehind, visitor: AnyVisitor) -> HTMLResponse:
    """The files of a miner's model."""
    listing = await api.list_model(task, hotkey, pages.api)
    details = await asyncio.to_thread(pages.api.board.task, task)
    size = sum(file.size_bytes for file in listing.files.values())
    return show(pages, visitor, "model.html", active="/tasks", task=details, model=listing, size=size)


@router.get("/{task_id}/models/{hotkey}/archive.tar")
async def model_archive(task: OwnTask, hotkey: str, pages: PagesBehind) -> Response:
    """All of them in one."""
    return await api.download_archive(task, hotkey, pages.api)


@router.get("/{task_id}/models/{hotkey}/{name}")
async def model_file(task: OwnTask, hotkey: str, name: str, pages: PagesBehind) -> Response:
    """One of them."""
    answer = await api.download_file(task, hotkey, name, pages.api)
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'  # a manifest's names are plain
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer


@router.get("/{task_id}/contact-sheet")
async def contact_sheet(task: OwnTask, pages: PagesBehind) -> Response:
    """What everybody made of the held-out images."""
    return await api.download_contact_sheet(task, pages.api)


class Fact(NamedTuple):
    """A line of what is known of a task."""

    name: str
    value: str


def task_values(pages: Pages, visitor: Visitor, task: Task) -> dict[str, object]:
    """What the page of a task shows to a visitor. Blocking."""
    owner = visitor.owns(pages, task)
    whole = pages.api.board.task(task)
    seen = whole if owner else for_everybody(whole, private=task.request.private)
    told = pages.curves.curves(task.id) if owner or task.state.ended else {}
    names = {miner.hotkey: f"uid {miner.uid}" for miner in seen.miners}
    return {
        "task": seen,
        "title": task_type(task.request.type).title,
        "owner": owner,
        "steps": STEPS,
        "progress": progress_of(whole.miners),
        "blocks_left": max(whole.blocks.deadline - pages.view.block, 0) if whole.blocks else None,
        "comparison": comparison(seen),
        "can_cancel": owner and visitor.may("submit") and task.state in CANCELLABLE,
        "curves": chart({names.get(hotkey, short(hotkey)): points for hotkey, points in told.items()}),
        "facts": _facts(task, seen, owner=owner),
        "sheet": png_size(pages.api.folders.contact_sheet(task.id))
        if owner and task.state is TaskState.SCORED
        else None,
        "tried": can_try(pages, task) if owner else None,
        "votes": votes_of(pages, task) if owner else {},
    }


def _facts(task: Task, seen: TaskDetails, *, owner: bool) -> list[Fact]:
    """What was asked for and what preparation made of it."""
    request, data, blocks = task.request, seen.data, seen.blocks
    facts = [Fact("base model", request.base), Fact("budget", f"{request.hours:g} hours for each miner")]
    if owner:
        facts.append(Fact("data set", _source(request.dataset)))
        facts.append(
            Fact("private", "yes: rows and models stay here" if request.private else "no: on the public record")
        )
    if data is not None:
        rows = f"{data.train_rows:,} to train on, {data.held_out_rows:,} held out"
        facts.append(Fact("rows", rows + (f", of these {data.made_up_rows:,} synthetic" if data.made_up_rows else "")))
        removed = ", ".join(f"{count:,} {reason}" for reason, count in data.removed.items() if count)
        facts.append(Fact("left out", removed or "nothing"))
        for number, source in enumerate(data.sources, start=1):
            rows = f"{source.taken:,} of {source.rows:,} rows, {source.train_rows:,} to train on, {source.held_out_rows:,} held out"
            repeated = f"; {source.repeated:,} stand in an earlier data set too" if source.repeated else ""
            facts.append(Fact(f"data set {number}", f"{source.dataset}: {rows}{repeated}"))
        if data.cut_rows:
            facts.append(Fact("cut", f"{data.cut_rows:,} of {data.tried_rows:,} tried rows lose tokens"))
        facts.append(Fact("weights of the base", f"{data.base_parameters:,}"))
        facts.append(Fact("held-out commitment", data.held_out_commitment))
    if blocks is not None:
        facts.append(
            Fact("blocks", f"{blocks.started} start, {blocks.deadline} deadline, {blocks.reveal_until} end of reveal")
        )
    facts.append(Fact("metric", f"{seen.metric.name}, {seen.metric.unit}; {seen.better} is better"))
    return facts


def _source(dataset: JsonObject) -> str:
    """Where rows come from, as their customer named it: of a file its name, for the folder is of this machine."""
    if dataset.get("kind") == MERGED:
        return ", ".join(map(name_of, parts_of(cast(JsonValue, dataset))))
    if isinstance(path := dataset.get("path"), str):
        return Path(path).name
    return ", ".join(f"{key}: {value}" for key, value in dataset.items() if value is not None)


def _place(text: str) -> Place | None:
    """Where a page begins; one that was made up begins at the newest task."""
    moment, _, task_id = text.partition("/")
    try:
        place = Place(float(moment), task_id)
    except ValueError:
        return None
    return place if math.isfinite(place.created_at) else None
