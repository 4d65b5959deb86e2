"""The held-out rows of a scored task over HTTP, for its own customer."""

from __future__ import annotations

import asyncio
from typing import Annotated

import fastapi
from fastapi import APIRouter, Query

from gradients.client.held_out import MOST_ROWS, USUAL_ROWS, HeldOutRow, HeldOutRows, Order
from gradients.client.models import BEST
from gradients.domain.customer import Scope
from validator.api.dependencies import AppDependencies, OwnTask, keyed
from validator.api.documented import NOT_FOUND, PREFIX, REFUSALS
from validator.api.held_out import held_out_row, held_out_rows

MOST_PASSED = 2**31
reading = APIRouter(prefix=PREFIX, route_class=keyed(Scope.READ), responses=REFUSALS, tags=["tasks"])

Miner = Annotated[
    str,
    Query(
        max_length=64,
        description=f"whose gains count: a hotkey, or '{BEST}' for the winner or, where nobody has won, whoever has the best result",
    ),
]


@reading.get("/tasks/{task_id}/rows", responses=NOT_FOUND)
async def list_rows(
    task: OwnTask,
    dependencies: AppDependencies,
    miner: Miner = BEST,
    order: Annotated[
        Order,
        Query(description="by what the miner gains over the base, or loses against it, most first; or as in the file"),
    ] = "gained",
    after: Annotated[int, Query(ge=0, lt=MOST_PASSED, description="rows to pass over: `next` of the page before")] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS, description="how many at most")] = USUAL_ROWS,
) -> HeldOutRows:
    """The held-out rows of a scored task with what base and miners have on each, page by page; long texts are cut."""
    return await asyncio.to_thread(
        held_out_rows,
        dependencies.ledger,
        dependencies.store,
        task,
        miner=miner,
        order=order,
        after=after,
        limit=limit,
    )


@reading.get("/tasks/{task_id}/rows/{row}", responses=NOT_FOUND)
async def show_row(
    task: OwnTask,
    row: Annotated[int, fastapi.Path(ge=1, lt=MOST_PASSED, description="its number in the held-out file, from 1")],
    dependencies: AppDependencies,
    miner: Miner = BEST,
) -> HeldOutRow:
    """One held-out row of a scored task, whole."""
    return await asyncio.to_thread(held_out_row, dependencies.ledger, dependencies.store, task, row, miner=miner)
