"""Customers' data in a worker: read, cleaned, deduplicated and split where a bomb or a flaw of a parser can do no harm. Without torch."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator

from pydantic import JsonValue

from gradients.datasets.splits import check_distinct
from gradients.domain.json import JsonObject
from gradients.domain.task import TaskRequest
from gradients.files.whole import write_text
from gradients.tasks.jobs import SURVEYED_TEXTS, PrepareJob, PrepareResult, SurveyJob, SurveyResult
from gradients.tasks.preparation import prepare_fetched, rows_fetched
from gradients.tasks.registry import task_type

UNSALTED = bytes(32)  # for choices that an estimate need not keep secret


def prepare(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """PrepareJob in, PrepareResult out; train.jsonl and held_out.jsonl in its folder. Raises DatasetInvalid with row numbers."""
    job = PrepareJob.model_validate(arguments)
    request = _request(job.request)
    made = prepare_fetched(
        task_type(request.type),
        request,
        job.fetched,
        salt=bytes.fromhex(job.salt),
        folder=job.folder,
        show_rows=job.show_rows,
        written=job.written,
    )
    result = PrepareResult(
        train_rows=made.train_rows,
        held_out_rows=made.held_out_rows,
        made_up_rows=made.made_up_rows,
        removed=made.removed,
        shown=tuple(map(tuple, made.shown)),
    )
    return result.model_dump(mode="json")


def survey(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """SurveyJob in, SurveyResult out; a sample of texts, always of the same rows, in its folder. Raises DatasetInvalid with row numbers."""
    job = SurveyJob.model_validate(arguments)
    request = _request(job.request)
    kind = task_type(request.type)
    cleaned = rows_fetched(kind, request, job.fetched, salt=UNSALTED)
    rows = [numbered.row for numbered in cleaned.rows]
    check_distinct(len(rows), kind.split_sizes, removed=cleaned.removed)
    chosen = random.Random(0).sample(rows, min(job.sample_rows, len(rows)))
    lines = (json.dumps(" ".join(_texts(dict(row)))[: job.longest_text]) for row in chosen)
    write_text(job.folder / SURVEYED_TEXTS, "\n".join(lines))
    return SurveyResult(rows=len(rows)).model_dump(mode="json")


def _request(given: JsonObject) -> TaskRequest:
    return TaskRequest(**given)  # type: ignore[arg-type]  # its fields, which the validator has checked


def _texts(value: JsonValue) -> Iterator[str]:
    """Every text in a row's normal form, which holds what a model reads and writes."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
