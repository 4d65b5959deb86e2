"""What miners get from a validator's axon: the train rows of running tasks, by digest, signed request by signed request."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, Request, Response

from gradients.axon.auth import Caller
from gradients.axon.server import file_response, requires_caller
from gradients.errors import PeerRefused
from gradients.repo.store import ContentStore
from validator.ledger import Ledger


def add_data_route(app: FastAPI, *, ledger: Ledger, store: ContentStore) -> None:
    """GET /v1/data/{sha256}: any registered hotkey may fetch train rows; held-out rows are never served."""

    @app.get("/v1/data/{sha256}")
    async def data(sha256: str, request: Request, caller: Caller = requires_caller) -> Response:
        published = await asyncio.to_thread(ledger.tasks.train_blobs)
        if sha256 not in published:
            raise PeerRefused(f"No running task has train rows with the digest {sha256[:12]}…", code="not_found")
        return file_response(store.path(sha256), request, sha256=sha256)
