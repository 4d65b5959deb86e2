"""Rewards tried from the form, before a task is posted: the same judging as by the API, shown beside the form."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import cast

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from gradients.client.rewards import RewardTrial
from gradients.datasets.json_rows import json_rows
from gradients.domain.json import Json
from gradients.errors import CustomerError, TaskInvalid
from gradients.tasks.base import TaskType
from gradients.tasks.registry import task_type
from validator.api import task_routes as api
from validator.pages.dependencies import AnyVisitor, Form, OwnForm, PagesBehind, Submitter, first, show
from validator.pages.fields import fields_of, filled_in, parameters_from

SHOWN_ROWS, ROW_CHARACTERS = 2, 100_000

router = APIRouter(include_in_schema=False, prefix="/new")


@router.post("/rewards")
async def try_rewards(pages: PagesBehind, visitor: AnyVisitor, customer: Submitter, form: OwnForm) -> HTMLResponse:
    """What the form's rewards say of its rows and answers, as a part of the page."""
    try:
        verdict = await api.try_rewards(_trial(form), pages.api, customer)
    except CustomerError as error:
        return show(pages, visitor, "verdict.html", verdict=None, problem=error)
    return show(pages, visitor, "verdict.html", verdict=verdict, problem=None)


def example_rows(kind: TaskType) -> str:
    """Rows of the data set by which the type is shown, one a line; empty for a type without rewards."""
    shown = kind.demonstrations[0].dataset
    if kind.judge is None or shown.suffix != ".jsonl":
        return ""
    rows = itertools.islice(json_rows(shown, most=ROW_CHARACTERS), SHOWN_ROWS)
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def _trial(form: Form) -> RewardTrial:
    """What is to be judged. Raises TaskInvalid."""
    kind = task_type(first(form, "type"))
    rows = [_json(line, f"line {number} of the rows") for number, line in _lines(first(form, "rows"))]
    answers = _answers(first(form, "answers"))
    given: dict[str, Json] = {
        "type": kind.name,
        "parameters": parameters_from(form, fields_of(kind)),
        "rows": rows,
        "answers": [answers] * len(rows) if answers else None,
    }
    return filled_in(RewardTrial, given, whole="trial")


def _answers(text: str) -> Sequence[str]:
    """Answers as they were filled in: one a line, or a JSON list of texts."""
    if not text.lstrip().startswith("["):
        return [line for _, line in _lines(text)]
    found = _json(text, "the list of answers")
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise TaskInvalid("The answers are not a JSON list of texts", fix='Write ["one", "another"], or one a line')
    return cast(Sequence[str], found)


def _lines(text: str) -> list[tuple[int, str]]:
    return [
        (number, line) for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1) if line.strip()
    ]


def _json(text: str, what: str) -> Json:
    try:
        return cast(Json, json.loads(text))
    except (ValueError, RecursionError) as error:
        said = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise TaskInvalid(
            f"{what[:1].upper()}{what[1:]} cannot be read as JSON: {said}", fix="Mend it and try again"
        ) from error
