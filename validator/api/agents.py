"""What programs that read before they act are told of the API: /llms.txt (llmstxt.org), and everything on one page.

Both are made of what the API is: its document, its examples, the task types' declarations and this validator's limits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from gradients.client.models import examples
from gradients.client.rewards import MOST_ANSWERS, MOST_ROWS
from gradients.datasets.formats import ENDINGS
from gradients.datasets.rows import SplitSizes
from gradients.domain.json import Json
from gradients.domain.task import TaskState
from gradients.tasks.base import TaskType
from gradients.tasks.registry import LONGEST_REQUEST_HOURS, all_types, with_sources
from validator.api.bodies import MOST_BYTES
from validator.api.dependencies import AppDependencies, Dependencies
from validator.api.documented import Responses

SHORT, FULL = "/llms.txt", "/llms-full.txt"
OF_A_HUB = "hub:org/passages"  # in place of a path of this machine
TEXT: Responses = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
Document = Mapping[str, Any]  # an OpenAPI document, which has no narrower type

router = APIRouter(tags=["agents"])


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one customer may have, as this validator's settings say."""

    running_tasks: int
    streams: int
    requests_per_minute: int
    upload_bytes: int
    upload_bytes_in_all: int


@router.get(SHORT, response_class=PlainTextResponse, responses=TEXT)
async def show_summary() -> str:
    """What this API is for and where its descriptions are, in the form of llmstxt.org."""
    return summary_text()


@router.get(FULL, response_class=PlainTextResponse, responses=TEXT)
async def show_everything(request: Request, dependencies: AppDependencies) -> str:
    """The whole product on one page, for programs: operations, task types, examples, limits, prices."""
    return full_text(request.app.openapi(), bounds_of(dependencies))


def bounds_of(behind: Dependencies) -> Bounds:
    """The limits that hold here."""
    return Bounds(
        running_tasks=behind.quotas.running_tasks,
        streams=behind.quotas.streams,
        requests_per_minute=behind.rates.per_minute,
        upload_bytes=behind.uploads.max_bytes,
        upload_bytes_in_all=behind.uploads.max_bytes_per_customer,
    )


def summary_text() -> str:
    """llms.txt: a title, a summary, and links with what they lead to."""
    titles = _list(f"`{kind.name}`: {kind.title}" for kind in all_types())
    return _text("llms.txt").substitute(what=_what(), titles=titles)


def full_text(document: Document, bounds: Bounds) -> str:
    """llms-full.txt: what somebody has to know who does all of it by HTTP."""
    estimate, posted, refusal = (
        json.dumps(examples()[name], indent=2) for name in ("EstimateSpec", "PostedSpec", "Refusal")
    )
    sizes = SplitSizes()
    return _text("llms-full.txt").substitute(
        version=document["info"]["version"],
        what=_what(),
        estimate=estimate,
        posted=posted,
        operations=_list(_operations(document)),
        types="\n\n".join(map(_type_text, all_types())),
        endings=", ".join(f"`{ending}`" for ending in ENDINGS),
        held_out=f"{sizes.fewest_held_out} to {sizes.most_held_out}",
        states=", ".join(f"`{state}`" for state in TaskState),
        limits=_list(_limits(bounds)),
        refusal=refusal,
    )


def _operations(document: Document) -> Iterator[str]:
    """Each operation with the first sentence of what it does; those of pages and figures are left out."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path.startswith("/v1"):
                said = " ".join(operation["description"].split()).partition(". ")[0].rstrip(".")
                yield f"`{method.upper()} {path}`: {said}"


def _type_text(kind: TaskType) -> str:
    schema = kind.schema.model_json_schema()
    fields = _list(
        f"`{name}`{' (required)' if name in schema.get('required', ()) else ''}: {about['description']}"
        for name, about in schema["properties"].items()
    )
    shipped: dict[str, Json] = {"type": kind.name, "parameters": dict(kind.demonstrations[0].parameters)}
    example = json.dumps(with_sources(shipped, lambda _: OF_A_HUB))
    measured = f"Measured by {kind.metric.name} ({kind.metric.unit}, {kind.metric.better} is better)."
    return f"### {kind.name}\n\n{kind.title}. {measured} Its `parameters`:\n\n{fields}\n\nFor example:\n\n```json\n{example}\n```"


def _limits(bounds: Bounds) -> Iterator[str]:
    yield f"{bounds.running_tasks} tasks that have not ended, each of {LONGEST_REQUEST_HOURS:g} hours of training at most"
    yield f"{bounds.upload_bytes:,} bytes for one upload, {bounds.upload_bytes_in_all:,} bytes for all that are kept"
    yield f"{MOST_BYTES:,} bytes for any other body"
    yield f"{bounds.streams} streams of events at once"
    yield f"{bounds.requests_per_minute} requests a minute, all keys together"
    yield f"{MOST_ROWS} rows and {MOST_ANSWERS} answers to each in a trial of rewards"


def _what() -> str:
    return _text("what.txt").template.strip()


def _text(name: str) -> Template:
    return Template((Path(__file__).parent / "texts" / name).read_text(encoding="utf-8"))


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
