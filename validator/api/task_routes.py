"""Tasks over HTTP: estimate, post, list, follow, cancel."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse

from gradients.client.estimates import Estimate, EstimateSpec
from gradients.client.models import PostedSpec, Refusal, TaskDetails, TaskList, TaskSummary
from gradients.client.rewards import RewardTrial, RewardVerdict
from gradients.domain.customer import Scope
from gradients.domain.task import TaskState
from gradients.errors import TaskInvalid
from validator.api.dependencies import AppDependencies, Customer, OwnTask, keyed
from validator.api.documented import NOT_FOUND, PREFIX, REFUSALS, Responses
from validator.api.posting import post
from validator.api.streams import EVENT_STREAM, NO_MORE, TooManyStreams, stream, told_of
from validator.ledger.listing import Place, TaskFilter

MOST_LISTED = 1000
LATEST = 1e12  # seconds; the year 33658
REPLAYED = "Idempotent-Replayed"
REPEATED: Responses = {
    201: {
        "headers": {
            REPLAYED: {
                "description": "'true' where an earlier request with this Idempotency-Key has posted the task",
                "schema": {"type": "string"},
            }
        }
    }
}
BEGUN: Responses = {409: {"model": Refusal, "description": "Miners work on the task already, or it has ended"}}

reading = APIRouter(prefix=PREFIX, route_class=keyed(Scope.READ), responses=REFUSALS, tags=["tasks"])
submitting = APIRouter(prefix=PREFIX, route_class=keyed(Scope.SUBMIT), responses=REFUSALS, tags=["tasks"])


@submitting.post("/tasks", status_code=201, responses=REPEATED)
async def post_task(
    spec: PostedSpec,
    dependencies: AppDependencies,
    customer: Customer,
    response: Response,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="any text of your choice, such as a UUID: a request with the same key and body, within a day, posts nothing new "
            "and gets the same answer",
        ),
    ] = None,
) -> TaskSummary:
    """Post a task. With an `Idempotency-Key` the request can be sent again until its answer has come, and one task is posted."""
    posted = await asyncio.to_thread(post, spec, dependencies, customer, key=idempotency_key)
    if posted.repeated:
        response.headers[REPLAYED] = "true"
    return posted.task


@submitting.post("/estimates")
async def estimate_task(spec: EstimateSpec, dependencies: AppDependencies, customer: Customer) -> Estimate:
    """What a spec will take; nothing is posted."""
    resolved = await asyncio.to_thread(dependencies.uploads.resolve, spec.model_dump(), customer=customer)
    stand_in = await asyncio.to_thread(dependencies.intake.stand_in, resolved, customer=customer)
    async with dependencies.estimating.of(customer):
        return await dependencies.estimates.of(resolved, stand_in=stand_in)


@submitting.post("/rewards/try")
async def try_rewards(asked: RewardTrial, dependencies: AppDependencies, customer: Customer) -> RewardVerdict:
    """What rewards say of some rows and answers, in the sandbox in which they would judge a task; nothing is posted."""
    async with dependencies.judging.of(customer):
        return await dependencies.rewards.of(asked)


@reading.get("/tasks")
async def list_tasks(
    dependencies: AppDependencies,
    customer: Customer,
    limit: Annotated[int, Query(description=f"how many at most, 1 to {MOST_LISTED}")] = 50,
    cursor: Annotated[str | None, Query(max_length=512, description="`next` of the page before")] = None,
    state: Annotated[
        list[TaskState] | None, Query(description="only tasks in this state; name it again for several")
    ] = None,
    type: Annotated[str | None, Query(max_length=64, description="only tasks of this type")] = None,  # noqa: A002
    search: Annotated[str | None, Query(max_length=256, description="only tasks with this text in id or base")] = None,
    created_after: Annotated[
        float | None, Query(ge=0, le=LATEST, description="only tasks posted at this time or later, Unix seconds")
    ] = None,
    created_before: Annotated[
        float | None, Query(ge=0, le=LATEST, description="only tasks posted before this time, Unix seconds")
    ] = None,
) -> TaskList:
    """The customer's tasks, newest first, page by page."""
    wanted = TaskFilter(tuple(state or ()), type, search, created_after, created_before)
    after, shown = _place(cursor), min(max(limit, 1), MOST_LISTED)

    def listed() -> TaskList:
        page = dependencies.ledger.tasks.page(customer, wanted, limit=shown, after=after)
        tasks = tuple(dependencies.board.summaries(page.tasks))
        return TaskList(tasks=tasks, next=_cursor(page.next) if page.next else None)

    return await asyncio.to_thread(listed)


@reading.get("/tasks/{task_id}", responses=NOT_FOUND)
async def show_task(task: OwnTask, dependencies: AppDependencies) -> TaskDetails:
    """One task with everything that may be seen of it now."""
    return await asyncio.to_thread(dependencies.board.task, task)


@submitting.post("/tasks/{task_id}/cancel", responses={**NOT_FOUND, **BEGUN})
async def cancel_task(task: OwnTask, dependencies: AppDependencies) -> TaskSummary:
    """Take a task back, as long as no miner has been drawn for it ('draft' and 'open'); again, it stays so.

    Miners that had said yes to the offer are not told to start, as if they had not been drawn.
    """
    cancelled = await asyncio.to_thread(dependencies.ledger.tasks.cancel, task.id)
    return await asyncio.to_thread(dependencies.board.summary, cancelled)


@reading.get(
    "/tasks/{task_id}/events",
    response_class=Response,
    responses={**NOT_FOUND, 200: {"content": EVENT_STREAM}, 204: {"description": "Nothing more will happen"}},
)
async def follow_task(
    task: OwnTask,
    dependencies: AppDependencies,
    customer: Customer,
    last_event_id: Annotated[
        int, Header(ge=0, lt=2**63, description="the last event that was heard; what came after it is sent")
    ] = 0,
) -> Response:
    """What happens to a task, as server-sent events: first what has happened already, then each thing as it does.

    Events named 'task' have an id and a `TaskEvent`, events named 'progress' a `TaskProgress`. The stream ends with the task, and after ten
    minutes in any case: connect again with `Last-Event-ID`, and nothing is missed. 204 says that there is nothing to wait for.
    """
    if task.state.ended:  # what has been written down since may be nothing for the customer
        news = await asyncio.to_thread(dependencies.ledger.events.after, task.id, last_event_id)
        if not any(map(told_of, news)):
            return Response(status_code=NO_MORE)
    open_ones, most = dependencies.streams, dependencies.quotas.streams
    if open_ones.counted[customer] >= most:
        raise TooManyStreams(
            f"{most} of your streams are open, as many as may be", fix="Close one, or follow fewer tasks"
        )
    events = stream(
        dependencies.ledger,
        dependencies.board,
        task.id,
        after=last_event_id,
        seconds=dependencies.stream_seconds,
        closing=open_ones.closing,
    )

    async def counted() -> AsyncIterator[str]:
        with open_ones.one_more(customer):
            async for text in events:
                yield text

    return StreamingResponse(counted(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _cursor(place: Place) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def _place(cursor: str | None) -> Place | None:
    if not cursor:
        return None
    try:
        created_at, task_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        place = Place(float(created_at), str(task_id))
        if not math.isfinite(place.created_at):
            raise ValueError("not a time")
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise TaskInvalid("`cursor` is not one of this list", fix="Give `next` of the page before, as it is") from error
    return place
