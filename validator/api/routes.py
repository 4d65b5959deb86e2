"""What customers bring and take away: rows, and models."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Annotated

import fastapi
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from gradients.client.models import BEST
from gradients.client.stored import BaseFiles, ModelFile, ModelListing, Upload
from gradients.domain.customer import Scope
from gradients.domain.evaluation import Measurement
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import Parent, Task, TaskState
from gradients.files.digest import file_sha256
from gradients.repo.card import Merit, Result
from gradients.repo.delivery import Delivery, delivery
from gradients.repo.manifest import parse_manifest
from gradients.tasks.registry import task_type
from gradients.web.site import time_text
from validator.api.archives import Archive, Member, sums
from validator.api.dependencies import AppDependencies, Customer, Dependencies, NoLongerKept, NotFound, OwnTask, keyed
from validator.api.documented import GONE, NOT_FOUND, PREFIX, REFUSALS, Responses
from validator.specs.continuing import base_of

UPLOAD_PATH = "/datasets"
BINARY = {"schema": {"type": "string", "format": "binary"}}
FILES_REFUSED: Responses = {**NOT_FOUND, **GONE}
reading = APIRouter(prefix=PREFIX, route_class=keyed(Scope.READ), responses=REFUSALS)
submitting = APIRouter(prefix=PREFIX, route_class=keyed(Scope.SUBMIT), responses=REFUSALS)

HotkeyInPath = Annotated[str, fastapi.Path(description=f"a miner's hotkey, or '{BEST}' for the winner's")]


@reading.get("/tasks/{task_id}/models/{hotkey}", responses=FILES_REFUSED, tags=["models"])
async def list_model(task: OwnTask, hotkey: HotkeyInPath, dependencies: AppDependencies) -> ModelListing:
    """The files of a miner's model, once the task is scored; 'best' names the winner's."""
    owner, model = await asyncio.to_thread(_delivery, dependencies, task, hotkey)
    return await asyncio.to_thread(_listing, owner, model)


@reading.get(
    "/tasks/{task_id}/models/{hotkey}/archive.tar",
    tags=["models"],
    response_class=StreamingResponse,
    responses={**FILES_REFUSED, 200: {"content": {"application/x-tar": BINARY}}},
)
async def download_archive(task: OwnTask, hotkey: HotkeyInPath, dependencies: AppDependencies) -> StreamingResponse:
    """All files of a miner's model as one tar archive, with their digests in `SHA256SUMS`."""
    owner, model = await asyncio.to_thread(_delivery, dependencies, task, hotkey)
    archive = await asyncio.to_thread(_archive, dependencies, task, owner, model)
    headers = {
        "Content-Length": str(archive.size_bytes),
        "Content-Disposition": f'attachment; filename="{archive.folder}.tar"',
    }
    return StreamingResponse(archive.chunks(), media_type="application/x-tar", headers=headers)


@reading.get(
    "/tasks/{task_id}/models/{hotkey}/{name}",
    tags=["models"],
    response_class=Response,
    responses={**FILES_REFUSED, 200: {"content": {"application/octet-stream": BINARY}}},
)
async def download_file(
    task: OwnTask,
    hotkey: HotkeyInPath,
    name: Annotated[str, fastapi.Path(description="a file's name, as the model's listing has it")],
    dependencies: AppDependencies,
) -> Response:
    """One file of a miner's model: its weights as they were measured, or what stands around them, which is ours and the base's."""
    owner, model = await asyncio.to_thread(_delivery, dependencies, task, hotkey)
    if name in model.written:
        return Response(model.written[name], media_type="application/octet-stream")
    if name in model.weights:
        file = dependencies.folders.submission(task.id, owner) / name
    elif name in model.of_base:
        file = model.of_base[name]
    else:
        raise NotFound(f"The model has no file {name}")
    return FileResponse(file, media_type="application/octet-stream")


@reading.get("/tasks/{task_id}/base", responses=FILES_REFUSED, tags=["models"])
async def list_base(task: OwnTask, dependencies: AppDependencies) -> BaseFiles:
    """The files of a task's base, of a task that continues another: nobody else has it."""
    parent = _made_base(task)
    files = {path: ModelFile(sha256=blob.sha256, size_bytes=blob.size_bytes) for path, blob in parent.files}
    return BaseFiles(base=task.request.base, digest=task.data.base_digest, files=files)


@reading.get(
    "/tasks/{task_id}/base/{path:path}",
    tags=["models"],
    response_class=Response,
    responses={**FILES_REFUSED, 200: {"content": {"application/octet-stream": BINARY}}},
)
async def download_base_file(
    task: OwnTask,
    path: Annotated[str, fastapi.Path(description="a file's path, as the base's listing has it")],
    dependencies: AppDependencies,
) -> Response:
    """One file of the base of a task that continues another."""
    blob = dict(_made_base(task).files).get(path)
    if blob is None:
        raise NotFound(f"Task {task.id} has no file {path[:96]} of its base")
    file = dependencies.store.path(blob.sha256)
    if not await asyncio.to_thread(file.is_file):
        fix = "Train it again; a base that was made for a task goes with the task's winner"
        raise NoLongerKept(f"The base of task {task.id} is no longer kept: the task ended too long ago", fix=fix)
    return FileResponse(file, media_type="application/octet-stream")


@reading.get(
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


@submitting.post(
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


def _made_base(task: Task) -> Parent:
    """Of the base that was made for the task. Raises NotFound for a task on a base that others have, and for one that is not prepared."""
    if task.prepared is None or task.prepared.parent is None:
        raise NotFound(f"Task {task.id} has no base of its own; {task.request.base} is to be had where it comes from")
    return task.prepared.parent


def _delivery(dependencies: Dependencies, task: Task, hotkey: str) -> tuple[str, Delivery]:
    """Whose model is meant, and its files. Raises NotFound before the task is scored, and when there is no such model, and NoLongerKept."""
    if task.state is not TaskState.SCORED:
        raise NotFound(f"Task {task.id} is {task.state}; models can be had once it is scored")
    owner = dependencies.board.winner(task) if hotkey == BEST else hotkey
    text = dependencies.ledger.submissions.manifest(task.id, owner) if owner else None
    if owner is None or text is None:
        raise NotFound(f"Task {task.id} has no model of {hotkey}")
    folder = dependencies.folders.submission(task.id, owner)
    if not folder.is_dir():
        since = dependencies.ledger.submissions.dropped_at(task.id).get(owner)
        raise NoLongerKept(
            f"The model of {owner} is no longer kept{f' since {time_text(since)}' if since else ''}: task {task.id} ended too long ago",
            fix="Train it again: the scores and the spec are still shown. Download what you want to keep soon after a task ends",
        )
    measured = dependencies.ledger.submissions.measurements(task.id)
    merit = Merit(
        task_id=task.id,
        task_type=task.request.type,
        hotkey=owner,
        metric=task_type(task.request.type).metric,
        hours=task.request.hours,
        train_rows=task.data.train_rows,
        held_out_rows=task.data.held_out_rows,
        ours=_result(measured.get(owner)),
        base=_result(measured.get(BASE_ENTRANT)),
        before=_before(dependencies, task),
    )
    base = base_of(task, dependencies.estimates.bases, dependencies.folders)
    return owner, delivery(folder, parse_manifest(text), base, merit)


def _before(dependencies: Dependencies, task: Task) -> tuple[str, ...]:
    """The first base and the tasks that the task goes on from, oldest first."""
    lineage = dependencies.ledger.tasks.lineage(task)
    return (lineage[0].request.base, *(each.id for each in lineage)) if lineage else ()


def _result(measured: Measurement | None) -> Result | None:
    return Result(measured.value, measured.stderr) if measured else None


def _archive(dependencies: Dependencies, task: Task, owner: str, model: Delivery) -> Archive:
    listed, folder = _listing(owner, model).files, dependencies.folders.submission(task.id, owner)
    contents: dict[str, bytes | Path] = {name: folder / name for name in model.weights}
    contents |= {**model.written, **model.of_base}
    members = [Member(name, listed[name].size_bytes, content) for name, content in sorted(contents.items())]
    digests = {name: file.sha256 for name, file in listed.items()}
    return Archive(f"{task.id}-{owner[:8]}", (*members, sums(digests)), task.created_at)


def _listing(owner: str, model: Delivery) -> ModelListing:
    files = {name: ModelFile(sha256=file.sha256, size_bytes=file.size_bytes) for name, file in model.weights.items()}
    for name, content in model.written.items():
        files[name] = ModelFile(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
    for name, path in model.of_base.items():
        files[name] = ModelFile(sha256=file_sha256(path), size_bytes=path.stat().st_size)
    return ModelListing(hotkey=owner, files=files)
