"""The public record over HTTP: for anybody, without a key, page by page."""

from __future__ import annotations

import asyncio
from typing import Annotated

import fastapi
from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse

from gradients.client.models import Refusal
from gradients.record.models import Record, RecordPage
from validator.api.dependencies import AppDependencies, NotFound

MOST_RECORDS, MOST_BYTES = 100, 8_000_000  # of a page
BINARY = {"schema": {"type": "string", "format": "binary"}}

router = APIRouter(
    prefix="/v1/record",
    tags=["record"],
    responses={
        400: {"model": Refusal, "description": "The request is not one that can be read"},
        404: {"model": Refusal, "description": "There is none, or it is not public"},
        422: {"model": Refusal, "description": "A number or a digest is not one"},
        429: {"model": Refusal, "description": "The address has too many requests under way"},
        500: {"model": Refusal, "description": "A failure of the validator's own"},
    },
)


@router.get("", response_model=RecordPage)
async def list_records(
    dependencies: AppDependencies,
    after: Annotated[int, Query(ge=0, lt=2**63, description="records behind this one")] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_RECORDS, description="how many at most")] = MOST_RECORDS,
) -> Response:
    """Records in their order; ask again behind the last one until none comes."""
    records = dependencies.ledger.records
    found = await asyncio.to_thread(records.page, after=after, limit=limit, most_bytes=MOST_BYTES)
    return _json(f'{{"records":[{",".join(found.contents)}],"last_seq":{found.last_seq}}}')


@router.get("/{seq}", response_model=Record)
async def show_record(
    seq: Annotated[int, fastapi.Path(ge=1, lt=2**63, description="its number")], dependencies: AppDependencies
) -> Response:
    """One record."""
    content = await asyncio.to_thread(dependencies.ledger.records.one, seq)
    if content is None:
        raise NotFound(f"There is no record {seq}")
    return _json(content)


@router.get(
    "/blobs/{sha256}",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": BINARY}}},
)
async def download_blob(
    sha256: Annotated[str, fastapi.Path(pattern="^[0-9a-f]{64}$", description="digest, as a record names it")],
    dependencies: AppDependencies,
) -> FileResponse:
    """Rows of a task that is not private, or a file of a model that was measured in it."""
    is_open = await asyncio.to_thread(dependencies.ledger.records.is_open, sha256)
    file = dependencies.store.path(sha256)
    if not is_open or not await asyncio.to_thread(file.is_file):
        raise NotFound(f"No bytes with the digest {sha256[:12]}… are public here")
    return FileResponse(file, media_type="application/octet-stream")


def _json(content: str) -> Response:
    """Bytes as they were signed, not read and written once more."""
    return Response(content, media_type="application/json")
