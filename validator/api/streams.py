"""A task's events for its customer as they happen, in the form of server-sent events (WHATWG HTML, section 9.2).

Covers: nothing is missed across a lost connection, as long as the caller says which event it heard last. Only what the board shows
is told: no loss of anybody before the task is scored, and no problem of the operator's own.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from pydantic import BaseModel

from gradients.client.models import TaskEvent, TaskProgress, examples
from gradients.domain.json import Json
from gradients.domain.task import TaskState
from gradients.errors import CustomerError
from validator.board import Board
from validator.ledger import Ledger
from validator.ledger.events import Event
from validator.stages.offer import UNTAKEN

EXAMPLE = "".join(
    f"event: {name}\ndata: {json.dumps(examples()[model.__name__])}\n\n"
    for name, model in (("task", TaskEvent), ("progress", TaskProgress))
)
EVENT_STREAM = {  # its schema is that of one event
    "text/event-stream": {
        "schema": {
            "type": "object",
            "required": ["event", "data"],
            "properties": {
                "id": {"type": "string", "description": "of the event; only of those named 'task'"},
                "event": {"type": "string", "enum": ["task", "progress"], "description": "what `data` is"},
                "data": {"type": "string", "description": "a TaskEvent or a TaskProgress as JSON"},
            },
        },
        "example": EXAMPLE,
    }
}
NO_MORE = 204  # tells a browser's EventSource not to come again
LOOK_SECONDS = 1.0
SILENT_SECONDS = 15.0  # then a comment keeps proxies from hanging up


class TooManyStreams(CustomerError):
    """A customer follows as many tasks as it may at once."""

    default_code = "too_many_streams"


async def stream(
    ledger: Ledger, board: Board, task_id: str, *, after: int, seconds: float, closing: threading.Event
) -> AsyncIterator[str]:
    """Events behind `after`, until the task has ended, the stream has lasted for so many seconds, or `closing` is set."""
    loop = asyncio.get_running_loop()
    began = spoke = loop.time()
    progress: TaskProgress | None = None
    yield "retry: 2000\n\n"
    while loop.time() - began < seconds and not closing.is_set():
        news = await asyncio.to_thread(_news, ledger, board, task_id, after)
        for event in news.events:
            after = event.id
            if (told := told_of(event)) is not None:
                yield _written("task", told, id=event.id)
        if news.progress.miners and news.progress != progress:
            yield _written("progress", news.progress)
        if news.ended and not news.events:
            return
        if news.events or news.progress != progress:
            spoke = loop.time()
        elif loop.time() - spoke > SILENT_SECONDS:
            spoke = loop.time()
            yield ": still here\n\n"
        progress = news.progress
        await asyncio.sleep(0.0 if news.events else LOOK_SECONDS)


def told_of(event: Event) -> TaskEvent | None:
    """What a customer is told of an event; None where it is the operator's own business."""
    fields, about = event.fields, dict[str, Json]()
    match event.name:
        case "task_created":
            about = {"kind": "created", "state": TaskState.DRAFT}
        case "task_advanced":
            about = {"kind": "state", "state": fields["to"]}
        case "window_set":
            about = {"kind": "drawn"}
        case "submission_changed":
            about = {"kind": "miner", "hotkey": fields["hotkey"], "submission": fields["state"]}
        case "entrant_measured":  # its value is for later
            about = {"kind": "measured", "hotkey": fields["entrant"]}
        case "task_postponed" if fields.get("problem") == UNTAKEN:
            about = {"kind": "waiting"}
        case _:
            return None
    return TaskEvent.model_validate({"id": event.id, "at": event.at, **about})


class _News(NamedTuple):
    events: Sequence[Event]
    progress: TaskProgress
    ended: bool


def _news(ledger: Ledger, board: Board, task_id: str, after: int) -> _News:
    """The task's end is looked up before its events, which are written with it."""
    task = ledger.tasks.find(task_id)
    ended = task is None or task.state.ended
    words = {} if ended else board.progress_of(task_id)
    return _News(ledger.events.after(task_id, after), TaskProgress(miners=words), ended)


def _written(name: str, data: BaseModel, *, id: int | None = None) -> str:  # noqa: A002 (the field's name in the format)
    """One event; JSON has no line breaks of its own."""
    numbered = "" if id is None else f"id: {id}\n"
    return f"{numbered}event: {name}\ndata: {data.model_dump_json()}\n\n"
