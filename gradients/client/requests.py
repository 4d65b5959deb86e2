"""What clients ask the API for: paths, queries and limits of time. Nothing here waits; both clients share it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote
from uuid import uuid4

import httpx

from gradients.domain.task import TaskState

TIMEOUT = httpx.Timeout(10.0, read=60.0)
ESTIMATE_TIMEOUT = httpx.Timeout(10.0, read=3600.0)
TRIAL_TIMEOUT = httpx.Timeout(10.0, read=300.0)
MOST_SILENT_SECONDS = 120.0  # of a validator whose task is followed
REST_SECONDS = 1.0  # before it is asked again
CHUNK_BYTES = 1 << 20
MOST_LOST_ANSWERS = 4  # of one request, before its caller is told
IDEMPOTENCY_KEY = "Idempotency-Key"
TASKS, ESTIMATES, DATASETS = "/v1/tasks", "/v1/estimates", "/v1/datasets"
TRY_REWARDS = "/v1/rewards/try"
UPLOADS, TUS_VERSION, PIECE_TYPE = "/v1/uploads", "1.0.0", "application/offset+octet-stream"
ACCOUNT, KEYS = "/v1/account", "/v1/keys"

Query = dict[str, str | int | float | Sequence[str]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tasks of a list are meant; what is not said does not narrow."""

    states: Sequence[TaskState] = ()
    type: str | None = None
    search: str | None = None  # in id and base
    since: datetime | None = None
    until: datetime | None = None

    def query(self, *, limit: int, cursor: str | None) -> Query:
        """As the API takes it."""
        given: dict[str, str | int | float | Sequence[str] | None] = {
            "limit": limit,
            "cursor": cursor,
            "state": [state.value for state in self.states] or None,
            "type": self.type,
            "search": self.search,
            "created_after": self.since.timestamp() if self.since else None,
            "created_before": self.until.timestamp() if self.until else None,
        }
        return {name: value for name, value in given.items() if value is not None}


def task_path(task_id: str, *parts: str) -> str:
    """The path of a task, or of something of it; a part cannot leave its place."""
    return "/".join([TASKS, *(quote(part, safe="") for part in (task_id, *parts))])


def key_path(key_id: str) -> str:
    """The path of an API key."""
    return f"{KEYS}/{quote(key_id, safe='')}"


def posting(key: str | None) -> dict[str, str]:
    """Headers of a task that is posted once, however often the request is sent: with this key, or one made up for it."""
    return {IDEMPOTENCY_KEY: key or str(uuid4())}


def may_repeat(headers: Mapping[str, str] | None, error: httpx.HTTPError, *, lost: int) -> bool:
    """Whether a request whose answer was lost for the so many-th time is sent again: it has a key by which the API knows it."""
    nobody_there = lost == 1 and isinstance(error, httpx.ConnectError)  # whose caller should hear of it at once
    return IDEMPOTENCY_KEY in (headers or {}) and lost <= MOST_LOST_ANSWERS and not nobody_there


def heard(last_id: int) -> dict[str, str]:
    """Headers of a stream that goes on after an event."""
    return {"Last-Event-ID": str(last_id), "Accept": "text/event-stream"}
