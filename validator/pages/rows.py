"""The held-out rows of a scored task, for its customer: where a model gains and loses most against the base.

Covers: rows are strangers' text, printed as text; pictures in them are given out as PNG and nothing else. Does not cover: from when on a
row may be seen, which is the API's functions' to say.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import fastapi
from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, Response
from pydantic import JsonValue

from gradients.client.held_out import HeldOutRow, Order
from gradients.client.models import BEST
from gradients.domain.task import Task
from validator.api.dependencies import NotFound
from validator.api.held_out import LISTED_CHARACTERS, held_out_row, held_out_rows
from validator.api.row_routes import MOST_PASSED
from validator.pages.dependencies import AnyVisitor, OwnTask, Pages, PagesBehind, show
from validator.pages.figures import LEAST_WIDTH
from validator.settings import KeepSettings

LISTED = 20
ORDERS: Mapping[Order, str] = {
    "gained": "it gains most against the base",
    "lost": "it loses most against the base",
    "file": "as they stand in the file",
}
FIRST, LAST = (
    ("system", "history", "prompt"),
    ("completion", "chosen", "rejected"),
)  # in which people read; files sort by name
PNG, PNG_IN_BASE64 = b"\x89PNG\r\n\x1a\n", "iVBORw0KGgo"

router = APIRouter(include_in_schema=False, prefix="/tasks")
Number = Annotated[int, fastapi.Path(ge=1, lt=MOST_PASSED)]


@dataclass(frozen=True, slots=True)
class Piece:
    """One text of a row, and where in the row it stands."""

    name: str
    text: str
    is_picture: bool = False  # then `name` is the field that holds it


@dataclass(frozen=True, slots=True)
class Card:
    """A row as it is shown."""

    row: HeldOutRow
    pieces: Sequence[Piece]
    is_cut: bool  # pictures left aside, which are shown whole
    base_at: float | None  # where its values are drawn, 0 to 100, on the scale of all rows of the page
    ours_at: float | None
    others: Mapping[str, float]  # name -> value of the other miners


@router.get("/{task_id}/rows")
async def listing(
    task: OwnTask,
    pages: PagesBehind,
    visitor: AnyVisitor,
    miner: str = "",
    order: str = "",
    after: Annotated[int, Query(ge=0, lt=MOST_PASSED)] = 0,
) -> HTMLResponse:
    """A page of rows; an order that there is not shows where the miner gains most."""
    asked: Order = next((each for each in ORDERS if each == order), "gained")
    api = pages.api

    def found() -> dict[str, object]:
        rows = held_out_rows(api.ledger, api.store, task, miner=miner or BEST, order=asked, after=after, limit=LISTED)
        names = _names(pages, task)
        return {"found": rows, "names": names, "cards_shown": _cards(rows.rows, rows.miner, names)}

    values = await asyncio.to_thread(found)
    return show(
        pages,
        visitor,
        "rows.html",
        active="/tasks",
        values=values,
        task=task,
        orders=ORDERS,
        order=asked,
        after=after,
        listed=LISTED,
        usually=KeepSettings(),
    )


@router.get("/{task_id}/rows/{row}")
async def one(task: OwnTask, row: Number, pages: PagesBehind, visitor: AnyVisitor, miner: str = "") -> HTMLResponse:
    """A row with its whole texts."""
    api = pages.api

    def found() -> dict[str, object]:
        names = _names(pages, task)
        hotkey = miner or next(iter(names), "")
        shown = held_out_row(api.ledger, api.store, task, row, miner=hotkey or BEST)
        [card] = _cards([shown], hotkey, names)
        return {"card": card, "names": names, "miner": hotkey}

    values = await asyncio.to_thread(found)
    return show(pages, visitor, "row.html", active="/tasks", values=values, task=task, usually=KeepSettings())


@router.get("/{task_id}/rows/{row}/picture")
async def picture(task: OwnTask, row: Number, field: str, pages: PagesBehind) -> Response:
    """A picture that stands in a field of a row."""
    api = pages.api
    shown = await asyncio.to_thread(held_out_row, api.ledger, api.store, task, row)
    text = (shown.content or {}).get(field)
    try:
        content = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        content = b""
    if not content.startswith(PNG):
        raise NotFound(f"Row {row} has no picture of this name, or is no longer kept")
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, max-age=3600"}
    return Response(content, media_type="image/png", headers=headers)


def _names(pages: Pages, task: Task) -> dict[str, str]:
    """Hotkey -> what people call the miner, the best first. Blocking."""
    ledger = pages.api.ledger
    ranks = {placing.hotkey: placing.rank for placing in ledger.placings.of_task(task.id)}
    measured = ledger.submissions.measurements(task.id)
    uids = [
        (ranks.get(each.hotkey) or float("inf"), each.uid, each.hotkey)
        for each in ledger.submissions.of_task(task.id)
        if each.hotkey in measured
    ]
    return {
        hotkey: f"uid {uid}" + (f" (place {rank:.0f})" if rank != float("inf") else "")
        for rank, uid, hotkey in sorted(uids)
    }


def _cards(rows: Sequence[HeldOutRow], miner: str | None, names: Mapping[str, str]) -> list[Card]:
    """Rows with their texts, and their values on one scale."""
    pairs = [(row.base, row.miners.get(miner or "")) for row in rows]
    known = [value for pair in pairs for value in pair if value is not None]
    lowest, highest = min(known, default=0.0), max(known, default=0.0)

    def place(value: float | None) -> float | None:
        return None if value is None else 2 + 96 * (value - lowest) / max(highest - lowest, LEAST_WIDTH)

    pieces = [tuple(_pieces(row.content or {})) for row in rows]
    return [
        Card(
            row,
            texts,
            is_cut=row.is_cut
            and (
                not any(each.is_picture for each in texts) or any(len(each.text) >= LISTED_CHARACTERS for each in texts)
            ),
            base_at=place(base),
            ours_at=place(ours),
            others={names.get(who, who): value for who, value in row.miners.items() if who != miner},
        )
        for row, (base, ours), texts in zip(rows, pairs, pieces, strict=True)
    ]


def _pieces(content: Mapping[str, JsonValue]) -> Iterator[Piece]:
    """A row's texts, what is asked before what is answered; what is empty is left out."""
    for name, value in _read(content):
        if isinstance(value, str) and value.startswith(PNG_IN_BASE64):
            yield Piece(name, "", is_picture=True)
        else:
            yield from _texts(name, value)


def _read(fields: Mapping[str, JsonValue]) -> list[tuple[str, JsonValue]]:
    """Fields in the order in which people read them."""
    places = {name: place for place, name in enumerate((*FIRST, None, *LAST))}
    return sorted(fields.items(), key=lambda field: places.get(field[0], places[None]))


def _texts(name: str, value: JsonValue) -> Iterator[Piece]:
    if isinstance(value, dict):
        for inner, each in _read(value):
            yield from _texts(f"{name}, {inner}", each)
    elif isinstance(value, list):
        for number, each in enumerate(value, start=1):
            yield from _texts(f"{name} {number}", each)
    elif value not in (None, ""):
        yield Piece(name, value if isinstance(value, str) else json.dumps(value))
