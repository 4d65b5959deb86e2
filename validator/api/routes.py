"""What customers can do: post tasks, follow them, upload rows, get models."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from pydantic import JsonValue

from gradients.domain.json import JsonObject
from gradients.domain.task import Task, TaskState
from gradients.repo.manifest import parse_manifest
from validator.api.dependencies import Customer, Dependencies, NotFound, OwnTask, Parts

BEST = "best"
MOST_LISTED = 1000
UPLOAD_PATH = "/datasets"

JsonBody = dict[str, JsonValue]
router = APIRouter(prefix="/v1")


@router.post("/tasks", status_code=201)
async def post_task(spec: JsonBody, parts: Parts, customer: Customer) -> JsonBody:
    """Post a task."""
    resolved = parts.uploads.resolve(spec)
    task = await asyncio.to_thread(parts.intake.submit, resolved, customer=customer)
    return _body(parts.board.summary(task))


@router.post("/estimates")
async def estimate(spec: JsonBody, parts: Parts, customer: Customer) -> JsonBody:
    """What a spec will take; nothing is posted."""
    return _body(await parts.estimates.of(parts.uploads.resolve(spec)))


@router.get("/tasks")
async def list_tasks(parts: Parts, customer: Customer, limit: int = 50) -> JsonBody:
    """The customer's tasks, newest first."""
    shown = min(max(limit, 1), MOST_LISTED)
    tasks = await asyncio.to_thread(parts.ledger.tasks.list, customer=customer, limit=shown)
    return {"tasks": [_body(parts.board.summary(task)) for task in tasks]}


@router.get("/tasks/{task_id}")
async def show_task(task: OwnTask, parts: Parts) -> JsonBody:
    """One task with everything that may be seen of it now."""
    return _body(await asyncio.to_thread(parts.board.task, task))


@router.get("/tasks/{task_id}/models/{hotkey}")
async def list_model(task: OwnTask, hotkey: str, parts: Parts) -> JsonBody:
    """The files of a miner's model, once the task is scored; 'best' names the winner's."""
    owner = await asyncio.to_thread(_owner, parts, task, hotkey)
    return {"hotkey": owner, "files": await asyncio.to_thread(_files, parts, task, owner)}


@router.get("/tasks/{task_id}/models/{hotkey}/{name}")
async def model_file(task: OwnTask, hotkey: str, name: str, parts: Parts) -> FileResponse:
    """One file of a miner's model."""
    owner = await asyncio.to_thread(_owner, parts, task, hotkey)
    if name not in await asyncio.to_thread(_files, parts, task, owner):
        raise NotFound(f"The model has no file {name}")
    return FileResponse(parts.folders.submission(task.id, owner) / name, media_type="application/octet-stream")


@router.get("/tasks/{task_id}/contact-sheet")
async def contact_sheet(task: OwnTask, parts: Parts) -> FileResponse:
    """What everybody made of the held-out images, as a PNG, once the task is scored."""
    sheet = parts.folders.contact_sheet(task.id)
    if task.state is not TaskState.SCORED or not await asyncio.to_thread(sheet.is_file):
        raise NotFound(f"Task {task.id} has no contact sheet: tasks with images have one once they are scored")
    return FileResponse(sheet, media_type="image/png")


@router.post(UPLOAD_PATH, status_code=201)
async def upload(name: str, request: Request, parts: Parts, customer: Customer) -> JsonBody:
    """Upload rows to train on; the answer's `dataset` goes into the task."""
    return {"dataset": await parts.uploads.receive(Path(name).name, request.stream()), "customer": customer}


def _owner(parts: Dependencies, task: Task, hotkey: str) -> str:
    """The hotkey whose model is meant. Raises NotFound before the task is scored, and when there is no such model."""
    if task.state is not TaskState.SCORED:
        raise NotFound(f"Task {task.id} is {task.state}; models can be had once it is scored")
    owner = parts.board.winner(task) if hotkey == BEST else hotkey
    if owner is None or parts.ledger.submissions.manifest(task.id, owner) is None:
        raise NotFound(f"Task {task.id} has no model of {hotkey}")
    return owner


def _files(parts: Dependencies, task: Task, hotkey: str) -> dict[str, JsonValue]:
    """name -> size and digest of a collected model's files."""
    text = parts.ledger.submissions.manifest(task.id, hotkey)
    if text is None:
        return {}
    files = parse_manifest(text).files
    return {name: {"sha256": file.sha256, "size_bytes": file.size_bytes} for name, file in files.items()}


def _body(view: JsonObject) -> JsonBody:
    """A view as FastAPI's type for JSON objects."""
    return cast(JsonBody, view)
