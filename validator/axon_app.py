"""What miners get from a validator's axon, signed request by signed request: train rows of running tasks, the bases that nobody else has,
and their own results."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, Request, Response

from gradients.axon.auth import Caller
from gradients.axon.messages import BaseListing, BlobName, Outcome
from gradients.axon.server import file_response, requires_caller
from gradients.errors import PeerRefused
from gradients.repo.store import ContentStore
from validator.ledger import Ledger
from validator.outcomes import outcome_of


def add_data_route(app: FastAPI, *, ledger: Ledger, store: ContentStore) -> None:
    """GET /v1/data/{sha256}: any registered hotkey may fetch train rows and files of bases; held-out rows are never served.

    GET /v1/bases/{digest} lists the files of a base that is another task's winner.
    """

    @app.get("/v1/data/{sha256}")
    async def data(sha256: str, request: Request, caller: Caller = requires_caller) -> Response:
        published = await asyncio.to_thread(ledger.tasks.published_blobs)
        if sha256 not in published:
            raise PeerRefused(f"No running task publishes bytes with the digest {sha256[:12]}…", code="not_found")
        return file_response(store.path(sha256), request, sha256=sha256)

    @app.get("/v1/bases/{digest}")
    async def base(digest: str, caller: Caller = requires_caller) -> BaseListing:
        published = await asyncio.to_thread(ledger.tasks.published)
        parent = next((each.parent for each in published if each.parent and each.base_digest == digest), None)
        if parent is None:
            raise PeerRefused(f"No running task goes on from a base {digest[:12]}…", code="not_found")
        files = {path: BlobName(sha256=blob.sha256, size_bytes=blob.size_bytes) for path, blob in parent.files}
        return BaseListing(base_digest=digest, files=files)


def add_outcome_route(app: FastAPI, *, ledger: Ledger) -> None:
    """GET /v1/tasks/{task_id}/outcome: whoever took part gets its own result once the task has ended; nobody gets another's."""

    @app.get("/v1/tasks/{task_id}/outcome")
    async def outcome(task_id: str, caller: Caller = requires_caller) -> Outcome:
        return await asyncio.to_thread(outcome_of, ledger, task_id, caller.hotkey)
