"""The customers' HTTP API: tasks, uploads, results and models, each by API key; health for the operator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, cast

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import JsonValue

from gradients import __version__
from gradients.domain.json import JsonObject
from gradients.domain.task import Task, TaskState
from gradients.errors import Blame, CustomerError, GradientsError, TaskInvalid
from gradients.repo.manifest import parse_manifest
from validator.api.uploads import Uploads
from validator.board import Board
from validator.folders import Folders
from validator.intake import Intake
from validator.ledger import Ledger

JsonBody = dict[str, JsonValue]
STATUS_OF_BLAME = {Blame.CUSTOMER: 422, Blame.OUTSIDE: 503, Blame.VALIDATOR: 500, Blame.MINER: 502}


class NotFound(CustomerError):
    """There is no such thing, or it is not this customer's."""

    default_code = "not_found"


class KeyRefused(CustomerError):
    """No API key, or one that opens nothing."""

    default_code = "key_refused"


STATUS_OF_ERROR: Mapping[type[GradientsError], int] = {NotFound: 404, KeyRefused: 401}


def api_app(
    *, ledger: Ledger, board: Board, intake: Intake, uploads: Uploads, folders: Folders, ready: Callable[[], bool]
) -> FastAPI:
    """The application. `ready` says whether the daemon can do its work now."""
    app = FastAPI(title="Gradients", version=__version__, docs_url=None, redoc_url=None)
    _add_errors(app)
    _add_health(app, ready)
    customer_of = _key_check(ledger)
    Customer = Annotated[str, Depends(customer_of)]  # noqa: N806 (a type)

    async def own_task(task_id: str, customer: Customer) -> Task:
        task = await asyncio.to_thread(ledger.tasks.find, task_id)
        if task is None or await asyncio.to_thread(ledger.tasks.customer_of, task_id) != customer:
            raise NotFound(f"There is no task {task_id}", fix="`gradients task list` shows yours")
        return task

    OwnTask = Annotated[Task, Depends(own_task)]  # noqa: N806 (a type)

    @app.post("/v1/tasks", status_code=201)
    async def post_task(wish: JsonBody, customer: Customer) -> JsonBody:
        """Post a task."""
        resolved = uploads.resolve(wish)
        task = await asyncio.to_thread(intake.submit, resolved, customer=customer)
        return _body(board.summary(task))

    @app.get("/v1/tasks")
    async def list_tasks(customer: Customer, limit: int = 50) -> JsonBody:
        """The customer's tasks, newest first."""
        tasks = await asyncio.to_thread(ledger.tasks.list, customer=customer, limit=min(max(limit, 1), 1000))
        return {"tasks": [_body(board.summary(task)) for task in tasks]}

    @app.get("/v1/tasks/{task_id}")
    async def show_task(task: OwnTask) -> JsonBody:
        """One task with everything that may be seen of it now."""
        return _body(await asyncio.to_thread(board.task, task))

    @app.get("/v1/tasks/{task_id}/models/{hotkey}")
    async def list_model(task: OwnTask, hotkey: str) -> JsonBody:
        """The files of a miner's model, once the task is scored; 'best' names the winner's."""
        return {"hotkey": (owner := await _owner(ledger, board, task, hotkey)), "files": _files(ledger, task, owner)}

    @app.get("/v1/tasks/{task_id}/models/{hotkey}/{name}")
    async def model_file(task: OwnTask, hotkey: str, name: str) -> FileResponse:
        """One file of a miner's model."""
        owner = await _owner(ledger, board, task, hotkey)
        if name not in _files(ledger, task, owner):
            raise NotFound(f"The model has no file {name}")
        return FileResponse(folders.submission(task.id, owner) / name, media_type="application/octet-stream")

    @app.post("/v1/datasets", status_code=201)
    async def upload(name: str, request: Request, customer: Customer) -> JsonBody:
        """Upload rows to train on; the answer's `dataset` goes into the task."""
        return {"dataset": await uploads.receive(Path(name).name, request.stream()), "customer": customer}

    return app


def _body(view: JsonObject) -> JsonBody:
    """A view as FastAPI's type for JSON objects."""
    return cast(JsonBody, view)


async def _owner(ledger: Ledger, board: Board, task: Task, hotkey: str) -> str:
    """The hotkey whose model is meant. Raises NotFound before the task is scored, and when there is no such model."""
    if task.state is not TaskState.SCORED:
        raise NotFound(f"Task {task.id} is {task.state}; models can be had once it is scored")
    owner = await asyncio.to_thread(board.winner, task) if hotkey == "best" else hotkey
    if owner is None or ledger.submissions.manifest(task.id, owner) is None:
        raise NotFound(f"Task {task.id} has no model of {hotkey}")
    return owner


def _files(ledger: Ledger, task: Task, hotkey: str) -> dict[str, JsonValue]:
    """name -> size and digest of a collected model's files."""
    text = ledger.submissions.manifest(task.id, hotkey)
    if text is None:
        return {}
    files = parse_manifest(text).files
    return {name: {"sha256": file.sha256, "size_bytes": file.size_bytes} for name, file in files.items()}


def _key_check(ledger: Ledger) -> Callable[..., Awaitable[str]]:
    bearer = HTTPBearer(auto_error=False)

    async def customer(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> str:
        found = await asyncio.to_thread(ledger.customers.of_key, given.credentials) if given else None
        if found is None:
            raise KeyRefused("The API key is missing or opens nothing", fix="Send `Authorization: Bearer gr_…`")
        return found

    return customer


def _add_health(app: FastAPI, ready: Callable[[], bool]) -> None:
    @app.get("/livez")
    async def livez() -> JsonBody:
        return {"alive": True, "version": __version__}

    @app.get("/readyz")
    async def readyz(response: Response) -> JsonBody:
        response.status_code = 200 if (is_ready := ready()) else 503
        return {"ready": is_ready}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _add_errors(app: FastAPI) -> None:
    """Every refusal is one JSON object with a stable code, never a stack trace."""

    @app.exception_handler(GradientsError)
    async def on_error(_: Request, error: GradientsError) -> JSONResponse:
        status = STATUS_OF_ERROR.get(type(error), STATUS_OF_BLAME[error.blame])
        return JSONResponse({"code": error.code, "message": error.message, "fix": error.fix}, status_code=status)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return await on_error(request, TaskInvalid(f"{where}: {first['msg']}"))
