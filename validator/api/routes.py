"""What customers bring and take away: rows, and models."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import fastapi
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse

from gradients.client.models import BEST, ModelFile, ModelListing, Upload
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import Task, TaskState
from gradients.repo.delivery import Merit, miners_own, written_anew
from gradients.repo.manifest import parse_manifest
from gradients.tasks.registry import task_type
from validator.api.dependencies import AppDependencies, Customer, Dependencies, KeyFirst, NotFound, OwnTask
from validator.api.documented import NOT_FOUND, PREFIX, REFUSALS

UPLOAD_PATH = "/datasets"
BINARY = {"schema": {"type": "string", "format": "binary"}}
router = APIRouter(prefix=PREFIX, route_class=KeyFirst, responses=REFUSALS)

HotkeyInPath = Annotated[str, fastapi.Path(description=f"a miner's hotkey, or '{BEST}' for the winner's")]


@router.get("/tasks/{task_id}/models/{hotkey}", responses=NOT_FOUND, tags=["models"])
async def list_model(task: OwnTask, hotkey: HotkeyInPath, dependencies: AppDependencies) -> ModelListing:
    """The files of a miner's model, once the task is scored; 'best' names the winner's."""
    return (await asyncio.to_thread(_delivery, dependencies, task, hotkey)).listing


@router.get(
    "/tasks/{task_id}/models/{hotkey}/{name}",
    tags=["models"],
    response_class=Response,
    responses={**NOT_FOUND, 200: {"content": {"application/octet-stream": BINARY}}},
)
async def download_file(
    task: OwnTask,
    hotkey: HotkeyInPath,
    name: Annotated[str, fastapi.Path(description="a file's name, as the model's listing has it")],
    dependencies: AppDependencies,
) -> Response:
    """One file of a miner's model: its weights as they were measured, or what we have written around them."""
    model = await asyncio.to_thread(_delivery, dependencies, task, hotkey)
    if name not in model.listing.files:
        raise NotFound(f"The model has no file {name}")
    if name in model.written:
        return Response(model.written[name], media_type="application/octet-stream")
    file = dependencies.folders.submission(task.id, model.listing.hotkey) / name
    return FileResponse(file, media_type="application/octet-stream")


@router.get(
    "/tasks/{task_id}/contact-sheet",
    tags=["models"],
    response_class=FileResponse,
    responses={**NOT_FOUND, 200: {"content": {"image/png": BINARY}}},
)
async def download_contact_sheet(task: OwnTask, dependencies: AppDependencies) -> FileResponse:
    """What everybody made of the held-out images, as a PNG, once the task is scored."""
    sheet = dependencies.folders.contact_sheet(task.id)
    there = await asyncio.to_thread(lambda: sheet.is_file() and not sheet.is_symlink())  # a worker has left it
    if task.state is not TaskState.SCORED or not there:
        raise NotFound(f"Task {task.id} has no contact sheet: tasks with images have one once they are scored")
    return FileResponse(sheet, media_type="image/png")


@router.post(
    UPLOAD_PATH,
    tags=["data"],
    status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": BINARY}}},
)
async def upload_rows(
    name: Annotated[str, Query(description="the file's name; its ending says the format")],
    request: Request,
    dependencies: AppDependencies,
    customer: Customer,
) -> Upload:
    """Upload rows to train on; the answer's `dataset` goes into the task."""
    dataset = await dependencies.uploads.receive(Path(name).name, request.stream(), customer=customer)
    return Upload(dataset=dataset, customer=customer)


class _Delivery(NamedTuple):
    """A model as its customer gets it."""

    listing: ModelListing
    written: Mapping[str, bytes]  # the files that are not the miner's


def _delivery(dependencies: Dependencies, task: Task, hotkey: str) -> _Delivery:
    """Whose model is meant, and its files. Raises NotFound before the task is scored, and when there is no such model."""
    if task.state is not TaskState.SCORED:
        raise NotFound(f"Task {task.id} is {task.state}; models can be had once it is scored")
    owner = dependencies.board.winner(task) if hotkey == BEST else hotkey
    text = dependencies.ledger.submissions.manifest(task.id, owner) if owner else None
    if owner is None or text is None:
        raise NotFound(f"Task {task.id} has no model of {hotkey}")
    folder = dependencies.folders.submission(task.id, owner)
    if not folder.is_dir():
        raise NotFound(f"The model of {hotkey} is no longer kept: task {task.id} ended too long ago")
    manifest, metric = parse_manifest(text), task_type(task.request.type).metric
    measured = dependencies.ledger.submissions.measurements(task.id)
    ours, base = measured.get(owner), measured.get(BASE_ENTRANT)
    merit = Merit(
        task_id=task.id,
        task_type=task.request.type,
        hotkey=owner,
        metric=metric.name,
        unit=metric.unit,
        value=ours.value if ours else None,
        base_value=base.value if base else None,
    )
    written = written_anew(folder, manifest, dependencies.estimates.bases.resolve(task.request.base), merit)
    own = {name: manifest.files[name] for name in miners_own(manifest)}
    files = {name: ModelFile(sha256=file.sha256, size_bytes=file.size_bytes) for name, file in own.items()} | {
        name: ModelFile(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
        for name, content in written.items()
    }
    return _Delivery(ModelListing(hotkey=owner, files=files), written)
