"""Continuation tasks: plain text, of which every token is to be foretold from those before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from pydantic import BaseModel, ConfigDict, Field

from gradients.datasets.columns import cell, check_cells, check_columns, check_enough
from gradients.datasets.rows import Cleaned, Numbered, Row
from gradients.domain.evaluation import Metric
from gradients.tasks.base import Demonstration, TaskType
from gradients.tasks.hours import Effort


class ContinuationParameters(BaseModel):
    """What a customer says about a continuation task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str = Field(default="text", min_length=1, description="holds the text")
    max_tokens: int = Field(default=512, ge=16, le=131_072, description="tokens of a row that are read")


def clean(rows: Sequence[Row], parameters: BaseModel) -> Cleaned:
    """Rows as {"text"}; empty ones are left out and counted."""
    column = cast(ContinuationParameters, parameters).column
    check_columns(rows, [column])
    check_cells(rows, [column])
    texts = {number: cell(row.get(column)) for number, row in enumerate(rows, start=1)}
    kept = tuple(Numbered(number, {"text": said}) for number, said in texts.items() if said)
    check_enough((row.number for row in kept), len(rows), missing="no text")
    return Cleaned(kept, Counter({"empty": len(rows) - len(kept)}))


def text(row: Row) -> str:
    """What rows are compared by."""
    return str(row["text"])


CONTINUATION = TaskType(
    name="continuation",
    title="Continuing plain text",
    schema=ContinuationParameters,
    clean=clean,
    text=text,
    metric=Metric("text cross-entropy", "nats/token", 1, "lower"),
    measure="tests.contract.tasks.seventh_type.metric:measure",
    train="tests.contract.tasks.seventh_type.trainer:train",
    generate="gradients.tasks.workers.generation:generate",
    schedule_share=0.20,
    demonstrations=(Demonstration(Path(__file__).with_name("rows.jsonl")),),
    effort=Effort(work_factor=0.5, gpu_factor=2),
)
