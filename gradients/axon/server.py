"""An axon as a FastAPI application: routes get verified callers, files go out by byte range, refusals are messages with codes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import anyio
from bittensor import http_auth
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from gradients import __version__
from gradients.axon.auth import Caller, CallerPolicy, Nonces
from gradients.axon.limits import ServerLimits
from gradients.axon.messages import Refusal
from gradients.axon.transport import CALLER_KEY, HEADER_FILE, RangeRefused, SignedTransport, status_of
from gradients.errors import GradientsError

OPEN_PATHS = frozenset({"/livez", "/version"})
CHUNK_BYTES = 1 << 18
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")
CODE_OF_STATUS = {404: "not_found", 405: "method_not_allowed"}


def signed_app(
    *,
    keypair: Any,  # noqa: ANN401 (bittensor's Keypair carries no types)
    policy: CallerPolicy,
    nonces: http_auth.NonceStore | None = None,
    limits: ServerLimits = ServerLimits(),  # noqa: B008 (frozen)
) -> FastAPI:
    """An application without routes of its own but /livez and /version, which anybody may call."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(
        cast(Any, SignedTransport),
        keypair=keypair,
        policy=policy,
        nonces=nonces or Nonces(),
        limits=limits,
        open_paths=OPEN_PATHS,
    )
    _add_errors(app)

    @app.get("/livez")
    async def livez() -> dict[str, bool]:
        return {"alive": True}

    @app.get("/version")
    async def version() -> dict[str, str]:
        return {"version": __version__}

    return app


def _caller(request: Request) -> Caller:
    return cast(Caller, getattr(request.state, CALLER_KEY))


requires_caller = Depends(_caller)


def file_response(file: Path, request: Request, *, sha256: str) -> StreamingResponse:
    """`file` or the one range of it that is asked for. Raises RangeRefused for a range outside of it."""
    size = file.stat().st_size
    begin, end = _range(request.headers.get("range"), size)
    whole = begin == 0 and end == size
    content_range = "-" if whole else f"bytes {begin}-{end - 1}/{size}"
    headers = {
        "Content-Length": str(end - begin),
        "ETag": f'"{sha256}"',
        "Accept-Ranges": "bytes",
        HEADER_FILE: f"{sha256} {content_range}",
    }
    if not whole:
        headers["Content-Range"] = content_range
    return StreamingResponse(
        _chunks(file, begin, end),
        status_code=200 if whole else 206,
        headers=headers,
        media_type="application/octet-stream",
    )


def _range(asked: str | None, size: int) -> tuple[int, int]:
    """First byte, and the byte after the last."""
    if asked is None:
        return 0, size
    match = _RANGE.fullmatch(asked)
    begin = int(match[1]) if match else size
    end = min(int(match[2]) + 1, size) if match and match[2] else size
    if begin >= end:
        raise RangeRefused(f"The range '{asked[:64]}' is not in the file's {size:,} bytes")
    return begin, end


async def _chunks(file: Path, begin: int, end: int) -> AsyncIterator[bytes]:
    async with await anyio.open_file(file, "rb") as stream:
        await stream.seek(begin)
        left = end - begin
        while left > 0 and (chunk := await stream.read(min(CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk


def _add_errors(app: FastAPI) -> None:
    """Every failure is a Refusal; a stack trace never leaves the process."""

    @app.exception_handler(GradientsError)
    async def on_error(_: Request, error: GradientsError) -> JSONResponse:
        return _refusal(status_of(error), error.code, str(error))

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return _refusal(422, "malformed", f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> JSONResponse:
        code = CODE_OF_STATUS.get(error.status_code, "malformed")
        return _refusal(error.status_code, code, f"{request.method} {request.scope['path']}: {error.detail}")


def _refusal(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse(Refusal(code=code, message=message[:500]).model_dump(mode="json"), status_code=status)
