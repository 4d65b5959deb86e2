"""What the routes work with, and who may use them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, cast
from weakref import WeakValueDictionary

from fastapi import Depends, Path, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from gradients.conditions.state import Conditions
from gradients.domain.customer import Scope
from gradients.domain.task import Task
from gradients.errors import CustomerError
from gradients.repo.store import ContentStore
from validator.api.rates import OwnRates, Rates, TooManyRequests
from validator.api.uploads import Uploads
from validator.board import Board
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.customers import KnownKey
from validator.specs.estimates import Estimates
from validator.specs.intake import Intake
from validator.specs.rewards import RewardTrials


class NotFound(CustomerError):
    """There is no such thing, or it is not this customer's."""

    default_code = "not_found"


class NoLongerKept(CustomerError):
    """There was such a thing, and it has been dropped to make room."""

    default_code = "no_longer_kept"


class KeyRefused(CustomerError):
    """No API key, or one that opens nothing."""

    default_code = "key_refused"


class ScopeMissing(CustomerError):
    """The API key may not be used for this."""

    default_code = "scope_missing"


@dataclass(frozen=True, slots=True)
class Quotas:
    """How much one customer may have at once."""

    running_tasks: int = 64
    streams: int = 16


@dataclass(frozen=True, slots=True)
class OpenStreams:
    """Streams of events that this process serves, by customer."""

    counted: Counter[str] = field(default_factory=Counter)
    closing: threading.Event = field(default_factory=threading.Event)  # they are to end now: the server stops

    @contextlib.contextmanager
    def one_more(self, customer: str) -> Iterator[None]:
        """Counted for the body."""
        self.counted[customer] += 1
        try:
            yield
        finally:
            self.counted[customer] -= 1
            if not self.counted[customer]:
                del self.counted[customer]


@dataclass(frozen=True, slots=True)
class CustomerTurns:
    """Of requests that keep workers busy for a while: a customer's own wait for each other, and nobody else does for them."""

    at_once: int = 2  # of one customer
    taken: WeakValueDictionary[str, asyncio.Semaphore] = field(default_factory=WeakValueDictionary)

    @contextlib.asynccontextmanager
    async def of(self, customer: str) -> AsyncIterator[None]:
        """One of the customer's turns for the body."""
        # The semaphore goes with the last who has or awaits a turn of it.
        turns = self.taken.setdefault(customer, asyncio.Semaphore(self.at_once))
        async with turns:
            yield


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Everything behind the API."""

    ledger: Ledger
    board: Board
    intake: Intake
    uploads: Uploads
    estimates: Estimates
    rewards: RewardTrials
    folders: Folders
    store: ContentStore
    conditions: Conditions  # what the daemon needs for its work, as it was last found
    rates: Rates = field(default_factory=lambda: OwnRates(600))
    quotas: Quotas = field(default_factory=Quotas)
    streams: OpenStreams = field(default_factory=OpenStreams)
    estimating: CustomerTurns = field(default_factory=CustomerTurns)
    judging: CustomerTurns = field(default_factory=lambda: CustomerTurns(at_once=1))
    stream_seconds: float = 600.0  # proxies and restarts end streams anyway, so every caller knows how to come back
    notes: tuple[str, ...] = ()  # what its operator should know while it is ready


def app_dependencies(request: Request) -> Dependencies:
    """What the application was made with."""
    return cast(Dependencies, request.app.state.dependencies)  # starlette's state carries no types


AppDependencies = Annotated[Dependencies, Depends(app_dependencies)]
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


def keyed(scope: Scope) -> type[APIRoute]:
    """Routes that look at the API key, its scope and its customer's rate before the body is read, which the framework would do first."""

    class Keyed(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def admitted(request: Request) -> Response:
                request.state.key = await _admitted(request, scope)
                return await handle(request)

            return admitted

    return Keyed


async def _admitted(request: Request, scope: Scope) -> KnownKey:
    """The key that was sent. Raises KeyRefused, ScopeMissing and TooManyRequests."""
    given, behind = await HTTPBearer(auto_error=False)(request), app_dependencies(request)
    found = await asyncio.to_thread(behind.ledger.customers.find, given.credentials) if given else None
    if found is None:
        fix = "Send `Authorization: Bearer gr_…` with a key that has not expired"
        raise KeyRefused("The API key is missing or opens nothing", fix=fix)
    await asyncio.to_thread(admit, behind, found, scope)
    return found


def admit(behind: Dependencies, key: KnownKey, scope: Scope) -> None:
    """Count a request of a key's customer. Raises TooManyRequests, and ScopeMissing for what the key may not be used for. Blocking."""
    if wait := behind.rates.wait(key.customer):
        said = f"More than {behind.rates.per_minute} requests a minute"
        raise TooManyRequests(said, retry_after_seconds=wait, fix="Wait as long as Retry-After says")
    if scope not in key.scopes:
        may = ", ".join(key.scopes)
        raise ScopeMissing(
            f"This key may not be used to {scope}: its scopes are {may}", fix=f"Use a key with the scope {scope}"
        )


async def key_that_was_sent(request: Request, _: Bearer) -> KnownKey:
    """The key that `keyed` has seen; the bearer is named for the API's document."""
    return cast(KnownKey, request.state.key)


SentKey = Annotated[KnownKey, Depends(key_that_was_sent)]


async def customer_of_key(key: SentKey) -> str:
    """Whose key was sent."""
    return key.customer


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
