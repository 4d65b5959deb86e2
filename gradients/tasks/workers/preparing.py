"""Customers' data in a worker: read, cleaned, deduplicated and split where a bomb or a flaw of a parser can do no harm. Without torch."""

from __future__ import annotations

import importlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from gradients.datasets.splits import Split, check_distinct, split
from gradients.datasets.spool import Made
from gradients.domain.json import JsonObject, canonical
from gradients.domain.task import TaskRequest
from gradients.files.whole import write_text
from gradients.tasks.base import TaskType
from gradients.tasks.jobs.rows import (
    SURVEYED_TEXTS,
    TRIED_ROWS,
    Lengths,
    PrepareJob,
    PrepareResult,
    SurveyJob,
    SurveyResult,
)
from gradients.tasks.preparation import prepare_fetched, rows_fetched
from gradients.tasks.trials import write_tried
from gradients.texts import harmless

UNSALTED = bytes(32)  # for choices that an estimate need not keep secret


def prepare(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """PrepareJob in, PrepareResult out; train.jsonl and held_out.jsonl in its folder. Raises DatasetInvalid with row numbers."""
    job = PrepareJob.model_validate(arguments)
    made = prepare_fetched(
        _declared(job.declaration),
        _request(job.request),
        job.fetched,
        salt=bytes.fromhex(job.salt),
        folder=job.folder,
        show_rows=job.show_rows,
        written=job.written,
        most_held_out=job.most_held_out,
    )
    write_tried(lambda: _lines(made.train_file, made.held_out_file), job.folder / TRIED_ROWS)
    result = PrepareResult(
        train_rows=made.train_rows,
        held_out_rows=made.held_out_rows,
        made_up_rows=made.made_up_rows,
        removed=made.removed,
        sources=made.sources,
        shown=tuple(map(tuple, made.shown)),
    )
    return result.model_dump(mode="json")


def survey(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """SurveyJob in, SurveyResult out; a sample of texts, always of the same rows, in its folder. Raises DatasetInvalid with row numbers."""
    job = SurveyJob.model_validate(arguments)
    kind = _declared(job.declaration)
    found = rows_fetched(kind, _request(job.request), job.fetched, salt=UNSALTED)
    cleaned = found.cleaned
    rows = Made(cleaned.rows, lambda numbered: numbered.row)
    removed = Counter(cleaned.removed)
    sides: Split | None = None
    if len(rows) <= job.most_compared:
        sides = split(
            cleaned.rows,
            text=kind.text,
            group=kind.group,
            salt=UNSALTED,
            sizes=kind.split_sizes,
            left_out=cleaned.removed,
        )
        removed.update(sides.removed)
    check_distinct(len(rows), kind.split_sizes, removed=cleaned.removed)
    chosen = random.Random(0).sample(rows, min(job.sample_rows, len(rows)))
    lines = (json.dumps(" ".join(_texts(dict(row)))[: job.longest_text]) for row in chosen)
    write_text(job.folder / SURVEYED_TEXTS, "\n".join(lines))
    tried = write_tried(lambda: (canonical(row).decode() for row in rows), job.folder / TRIED_ROWS)
    numbers = tuple(cleaned.rows[position].number for position in tried)
    return SurveyResult(
        rows=len(rows),
        tried=numbers,
        removed=tuple((reason, count) for reason, count in removed.items() if count),
        train_rows=len(sides.train) if sides else None,
        held_out_rows=len(sides.held_out) if sides else None,
        sources=found.counts(kind, sides),
        characters=Lengths.of([sum(map(len, _texts(dict(row)))) for row in rows]),
        shown=tuple(_shortened(dict(row), job.most_shown_characters) for row in rows[: job.shown_rows]),
    ).model_dump(mode="json")


def _lines(*files: Path) -> Iterator[str]:
    for path in files:
        with path.open(encoding="utf-8") as file:
            yield from file


def _declared(name: str) -> TaskType:
    module, _, attribute = name.partition(":")
    return cast(TaskType, getattr(importlib.import_module(module), attribute))


def _request(given: JsonObject) -> TaskRequest:
    return TaskRequest(**given)  # type: ignore[arg-type]  # its fields, which the validator has checked


def _shortened(value: JsonValue, most: int) -> JsonValue:
    """A row with its long texts cut, for people to look at; their middles give way."""
    if isinstance(value, str):
        return harmless(value, most=most, lines=True)
    if isinstance(value, dict):
        return {name: _shortened(inner, most) for name, inner in value.items()}
    return [_shortened(inner, most) for inner in value] if isinstance(value, list) else value


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
