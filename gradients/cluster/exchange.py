"""The route by which nodes fetch what jobs read and bring what jobs wrote, and by which they are told to stop.

Covers: each run of a job has a token of its own, which opens that run's files and nothing else, and nothing at all once the run is over, so
that the late answer of a node that was given up changes nothing; what comes in is bounded and stays below the run's folder. Does not cover:
listeners on the wire; the cluster's network must be private.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from gradients.axon.server import file_response
from gradients.axon.transport import RangeRefused
from gradients.cluster.parcel import check_relative
from gradients.files.disk import check_room, writing

RESULT, LOG = "result", "log"  # places beside the numbers of the folders that a job writes to
MOST_BYTES = 64 * 1024**3  # of one run's results
_TOKEN_BYTES = 32


@dataclass(eq=False)
class Run:
    """One try of one job on some node."""

    files: Mapping[str, Path]  # that it may fetch, by sha256
    folder: Path  # where what it brings lies: a folder for each place
    places: frozenset[str]
    token: str = field(default_factory=lambda: secrets.token_urlsafe(_TOKEN_BYTES))
    begun: bool = False  # whether some node runs it
    stopping: bool = False
    arrived_bytes: int = 0
    heard: float = field(default_factory=time.monotonic)  # when a node last said that it is at it


class Exchange:
    """The runs that are under way."""

    def __init__(self) -> None:
        self._runs: dict[bytes, Run] = {}

    def open(self, files: Mapping[str, Path], folder: Path, *, writes: int) -> Run:
        """Let some node fetch `files` and bring results into `folder`."""
        run = Run(files, folder, frozenset([RESULT, LOG, *map(str, range(writes))]))
        self._runs[_key(run.token)] = run
        return run

    def close(self, run: Run) -> None:
        """Let nobody fetch or bring anything for it any more, and drop what it has brought."""
        self._runs.pop(_key(run.token), None)
        shutil.rmtree(run.folder, ignore_errors=True)

    def find(self, authorization: str | None) -> Run | None:
        """The run that a request speaks for."""
        scheme, _, token = (authorization or "").partition(" ")
        return self._runs.get(_key(token)) if scheme.lower() == "bearer" else None


class _Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        self.status, self.code = status, code


def exchange_app(exchange: Exchange) -> FastAPI:
    """The route as an application."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.exception_handler(_Refused)
    async def on_refused(_: Request, refused: _Refused) -> JSONResponse:
        return JSONResponse({"code": refused.code}, status_code=refused.status)

    @app.exception_handler(RangeRefused)
    async def on_range(_: Request, __: RangeRefused) -> JSONResponse:
        return JSONResponse({"code": "range"}, status_code=416)

    def run_of(request: Request) -> Run:
        run = exchange.find(request.headers.get("authorization"))
        if run is None:
            raise _Refused(401, "run_over")
        run.heard = time.monotonic()
        return run

    asks = Depends(run_of)

    @app.get("/livez")
    async def livez() -> dict[str, bool]:
        return {"alive": True}

    @app.post("/v1/beat")
    async def beat(run: Run = asks) -> dict[str, bool]:
        return {"stop": run.stopping}

    @app.get("/v1/files/{sha256}")
    async def fetch(sha256: str, request: Request, run: Run = asks) -> Response:
        file = run.files.get(sha256)
        if file is None:
            raise _Refused(404, "not_offered")
        return file_response(file, request, sha256=sha256)

    @app.put("/v1/left/{place}/{path:path}", status_code=204)
    async def bring(place: str, path: str, request: Request, run: Run = asks) -> None:
        await _take(run, place, path, request, lambda: exchange.find(request.headers.get("authorization")))

    return app


async def _take(run: Run, place: str, path: str, request: Request, still: Callable[[], Run | None]) -> None:
    """Put a body where it belongs, when it has come whole and the run is not over by then."""
    if place not in run.places:
        raise _Refused(404, "no_such_place")
    try:
        check_relative(path)
    except ValueError as error:
        raise _Refused(422, "path") from error
    target = run.folder / place / path
    part = run.folder / f"{secrets.token_hex(8)}.part"
    run.folder.mkdir(parents=True, exist_ok=True)
    check_room(run.folder, int(request.headers.get("content-length") or 0))
    digest = hashlib.sha256()
    try:
        with writing(part):
            async with await anyio.open_file(part, "wb") as file:
                async for chunk in request.stream():
                    run.arrived_bytes += len(chunk)
                    if run.arrived_bytes > MOST_BYTES:
                        raise _Refused(413, "too_much")
                    run.heard = time.monotonic()
                    digest.update(chunk)
                    await file.write(chunk)
        if digest.hexdigest() != request.headers.get("x-sha256"):
            raise _Refused(422, "digest")
        if still() is not run:
            raise _Refused(401, "run_over")
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)
    finally:
        with suppress(OSError):
            part.unlink()


def _key(token: str) -> bytes:
    """What a token is found by: comparing it letter by letter would tell how much of it is right."""
    return hashlib.sha256(token.encode()).digest()
