"""What the routes work with, and who may use them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import Depends, Path, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from gradients.domain.task import Task
from gradients.errors import CustomerError
from gradients.repo.store import ContentStore
from validator.api.uploads import Uploads
from validator.board import Board
from validator.estimates import Estimates
from validator.folders import Folders
from validator.intake import Intake
from validator.ledger import Ledger


class NotFound(CustomerError):
    """There is no such thing, or it is not this customer's."""

    default_code = "not_found"


class KeyRefused(CustomerError):
    """No API key, or one that opens nothing."""

    default_code = "key_refused"


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Everything behind the API."""

    ledger: Ledger
    board: Board
    intake: Intake
    uploads: Uploads
    estimates: Estimates
    folders: Folders
    store: ContentStore
    ready: Callable[[], bool]  # whether the daemon can do its work now
    stream_seconds: float = 600.0  # proxies and restarts end streams anyway, so every caller knows how to come back
    notes: tuple[str, ...] = ()  # what its operator should know while it is ready


def app_dependencies(request: Request) -> Dependencies:
    """What the application was made with."""
    return cast(Dependencies, request.app.state.dependencies)  # starlette's state carries no types


AppDependencies = Annotated[Dependencies, Depends(app_dependencies)]
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


class KeyFirst(APIRoute):
    """A route that looks at the API key before it reads the body, which the framework would do first."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def keyed(request: Request) -> Response:
            request.state.customer = await _customer_of(request)
            return await handle(request)

        return keyed


async def _customer_of(request: Request) -> str:
    """The customer whose key was sent. Raises KeyRefused."""
    given = await HTTPBearer(auto_error=False)(request)
    customers = app_dependencies(request).ledger.customers
    found = await asyncio.to_thread(customers.of_key, given.credentials) if given else None
    if found is None:
        raise KeyRefused("The API key is missing or opens nothing", fix="Send `Authorization: Bearer gr_…`")
    return found


async def customer_of_key(request: Request, _: Bearer) -> str:
    """The customer whose key `KeyFirst` has seen; the bearer is named for the API's document."""
    return cast(str, request.state.customer)


Customer = Annotated[str, Depends(customer_of_key)]
TaskIdInPath = Annotated[str, Path(description="the task's id, as the list of tasks shows it")]


async def own_task(task_id: TaskIdInPath, dependencies: AppDependencies, customer: Customer) -> Task:
    """The task, when it is the customer's own."""
    tasks = dependencies.ledger.tasks
    task = await asyncio.to_thread(tasks.find, task_id)
    if task is None or await asyncio.to_thread(tasks.customer_of, task_id) != customer:
        raise NotFound(f"There is no task {task_id}", fix="`gradients task list` shows yours")
    return task


OwnTask = Annotated[Task, Depends(own_task)]
