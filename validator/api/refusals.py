"""How the API says no: whatever the reason, the answer is one `Refusal`, and never a stack trace.

Covers: the project's own errors, requests that break a route's schema, what the framework refuses by itself, and crashes. Does not
cover: a crash after an answer has begun; the connection is closed then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gradients.client.models import Refusal
from gradients.errors import Blame, GradientsError, TaskInvalid
from gradients.log import get_logger
from gradients.texts import harmless
from validator.api.dependencies import KeyRefused, NoLongerKept, NotFound, ScopeMissing
from validator.api.rates import TooManyRequests
from validator.api.resumable import TooManyUploads, UploadConflict, UploadDamaged, UploadUnknown
from validator.api.streams import TooManyStreams
from validator.api.tus import TusVersionUnknown, UploadNotBinary
from validator.api.uploads import UploadTooLarge
from validator.api.writing import UploadBusy
from validator.ledger.tasks import TaskBegun, TooManyTasks

STATUS_OF_BLAME = {Blame.CUSTOMER: 422, Blame.OUTSIDE: 503, Blame.OPERATOR: 500, Blame.MINER: 502}
STATUS_OF_ERROR: Mapping[type[GradientsError], int] = {
    KeyRefused: 401,
    ScopeMissing: 403,
    NotFound: 404,
    TaskBegun: 409,
    NoLongerKept: 410,
    UploadUnknown: 404,
    UploadConflict: 409,
    TusVersionUnknown: 412,
    UploadTooLarge: 413,
    UploadNotBinary: 415,
    UploadBusy: 423,
    TooManyUploads: 429,
    UploadDamaged: 460,
    TooManyRequests: 429,
    TooManyStreams: 429,
    TooManyTasks: 429,
}
MOST_PROBLEMS = 3  # of one request that are named

log = get_logger("api")


async def on_error(request: Request, error: Exception) -> JSONResponse:
    """The answer to a failure that the project names; its blame decides the status."""
    assert isinstance(error, GradientsError)  # noqa: S101 (what it is registered for)
    if error.blame is Blame.OPERATOR:
        log.error("request_failed", path=request.url.path, code=error.code, problem=str(error))
    status = STATUS_OF_ERROR.get(type(error), STATUS_OF_BLAME[error.blame])
    waits = error.retry_after_seconds if isinstance(error, TooManyRequests) else None
    headers = {"Retry-After": str(math.ceil(waits))} if waits is not None else None
    return refused(status, code=error.code, message=error.message, fix=error.fix, headers=headers)


async def on_invalid(request: Request, error: Exception) -> JSONResponse:
    """The answer to a request that breaks its route's schema, such as a task spec with an unknown field."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 (what it is registered for)
    problems = []
    for each in error.errors()[:MOST_PROBLEMS]:
        place = each["loc"][1:] if each["loc"][0] == "body" and each["type"] != "json_invalid" else each["loc"]
        problems.append(f"{'.'.join(map(str, place)) or 'body'}: {each['msg']}")
    fix = "`gradients task submit --help`, /openapi.json and the type's README show what is asked for"
    return await on_error(request, TaskInvalid("; ".join(problems), fix=fix))


async def on_refused(_: Request, error: Exception) -> JSONResponse:
    """The answer to what the framework refuses by itself, such as a path that is not there."""
    assert isinstance(error, HTTPException)  # noqa: S101 (what it is registered for)
    status, message = error.status_code, str(error.detail)
    return refused(status, code=f"http_{status}", message=message, fix=None, headers=error.headers)


@dataclass(frozen=True, slots=True)
class Crashes:
    """Answers with 500 (internal) where the application raised what nobody has named; the log has the trace."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, with its crashes caught."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except ClientDisconnect:  # in the middle of an upload: nobody is there to be answered
            log.info("client_gone", path=scope.get("path"))
        except Exception:  # the outermost place of a request; the answer says nothing of what went wrong inside
            if begun:
                raise
            log.exception("request_crashed", path=scope.get("path"))
            said = "The validator could not answer: a failure of its own"
            fix = "Try again later, or tell the validator's operator"
            answer = refused(500, code="internal", message=said, fix=fix)
            await answer(scope, receive, send)


def refused(
    status: int, *, code: str, message: str, fix: str | None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """A `Refusal` as an answer."""
    body = Refusal(code=code, message=harmless(message), fix=fix).model_dump()
    return JSONResponse(body, status_code=status, headers=headers)
