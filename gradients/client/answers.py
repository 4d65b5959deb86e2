"""What the API answered, checked: a model, or the reason why there is none. Nothing here asks; both clients share it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import httpx
from httpx_sse import ServerSentEvent
from pydantic import BaseModel, ValidationError

from gradients.client.models import Refusal, TaskEvent, TaskProgress
from gradients.errors import CustomerError, PeerUnreachable

LONGEST_WAIT_SECONDS = 60.0  # that a client takes of a Retry-After before it gives the refusal to its caller

Model = TypeVar("Model", bound=BaseModel)


class ApiRefused(CustomerError):
    """The API answered no; `code` is its own.

    Args:
        status: of the answer, such as 404.
        retry_after_seconds: after which the same request may be taken; None where the API has not said.
    """

    default_code = "api_refused"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        fix: str | None = None,
        status: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, code=code, fix=fix)
        self.status = status
        self.retry_after_seconds = retry_after_seconds


def read(model: type[Model], response: httpx.Response) -> Model:
    """The body as what it should be. Raises ApiRefused for an answer that is none of the API's."""
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ApiRefused(
            f"{_asked(response)} was answered with {response.status_code} but not with a {model.__name__}: "
            f"{where + ': ' if where else ''}{first['msg']}",
            fix="Is --api-url a validator's API?",
            status=response.status_code,
        ) from error


def refusal(response: httpx.Response) -> ApiRefused:
    """The error that an answer without success stands for, in the API's own words; the body must have been read."""
    waits, status = _retry_after(response.headers), response.status_code
    try:
        said = Refusal.model_validate_json(response.content)
    except ValidationError:  # something else answers, such as a proxy
        return ApiRefused(f"{_asked(response)} was answered with {status}", status=status, retry_after_seconds=waits)
    return ApiRefused(said.message, code=said.code, fix=said.fix, status=status, retry_after_seconds=waits)


def worth_waiting(error: ApiRefused) -> float | None:
    """Seconds after which the request is made again without asking the caller; None where it is not."""
    wait = error.retry_after_seconds
    return wait if error.status == httpx.codes.TOO_MANY_REQUESTS and wait and wait <= LONGEST_WAIT_SECONDS else None


def is_outage(error: ApiRefused) -> bool:
    """Whether the API, or a proxy in front of it, is away for a while: a stream waits for its return."""
    return error.status is not None and (error.status >= 500 or error.status == httpx.codes.TOO_MANY_REQUESTS)


def unreachable(base_url: httpx.URL, error: Exception) -> PeerUnreachable:
    """What no answer at all is told as."""
    return PeerUnreachable(
        f"The validator's API at {base_url} does not answer: {error}", fix="Is `gradients validator run` up?"
    )


def told(event: ServerSentEvent) -> TaskEvent | TaskProgress | None:
    """What an event of a task's stream says; None for one that only a newer client knows. Raises PeerUnreachable for nonsense."""
    kinds: Mapping[str, type[TaskEvent | TaskProgress]] = {"task": TaskEvent, "progress": TaskProgress}
    kind = kinds.get(event.event)
    try:
        return kind.model_validate_json(event.data) if kind else None
    except ValidationError as error:
        raise PeerUnreachable(f"The validator's stream holds an event {event.event!r} that cannot be read") from error


def _asked(response: httpx.Response) -> str:
    return f"{response.request.method} {response.request.url.path}"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else None
