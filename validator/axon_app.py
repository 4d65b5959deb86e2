"""What miners get from a validator's axon, signed request by signed request: train rows of running tasks, and their own results."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, Request, Response

from gradients.axon.auth import Caller
from gradients.axon.messages import Outcome
from gradients.axon.server import file_response, requires_caller
from gradients.errors import PeerRefused
from gradients.repo.store import ContentStore
from validator.ledger import Ledger
from validator.outcomes import outcome_of


def add_data_route(app: FastAPI, *, ledger: Ledger, store: ContentStore) -> None:
    """GET /v1/data/{sha256}: any registered hotkey may fetch train rows; held-out rows are never served."""

    @app.get("/v1/data/{sha256}")
    async def data(sha256: str, request: Request, caller: Caller = requires_caller) -> Response:
        published = await asyncio.to_thread(ledger.tasks.train_blobs)
        if sha256 not in published:
            raise PeerRefused(f"No running task has train rows with the digest {sha256[:12]}…", code="not_found")
        return file_response(store.path(sha256), request, sha256=sha256)


def add_outcome_route(app: FastAPI, *, ledger: Ledger) -> None:
    """GET /v1/tasks/{task_id}/outcome: whoever took part gets its own result once the task has ended; nobody gets another's."""

    @app.get("/v1/tasks/{task_id}/outcome")
    async def outcome(task_id: str, caller: Caller = requires_caller) -> Outcome:
        return await asyncio.to_thread(outcome_of, ledger, task_id, caller.hotkey)
