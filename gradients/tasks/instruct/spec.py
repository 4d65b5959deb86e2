"""Instruct tasks: an instruction, perhaps with an input, and the answer to learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Self, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gradients.datasets.columns import (
    LONGEST_FORMAT,
    cell,
    check_cells,
    check_columns,
    check_enough,
    check_format,
    filled,
)
from gradients.datasets.rows import Cleaned, Numbered, Row, numbered_rows
from gradients.domain.evaluation import Metric
from gradients.tasks.base import SHIPPED_DATA, Demonstration, TaskType
from gradients.tasks.texts import with_texts


class Columns(BaseModel):
    """Which column of the data set is which."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    instruction: str = Field(default="instruction", min_length=1, description="what is asked")
    output: str = Field(default="output", min_length=1, description="the answer to learn")
    input: str | None = Field(default=None, description="more to go with the instruction")
    system: str | None = Field(default=None, description="a system message of each row's own")

    def named(self) -> dict[str, str]:
        """role -> column, of the columns that are used."""
        return {role: column for role, column in self.model_dump().items() if column is not None}


class InstructParameters(BaseModel):
    """What a customer says about an instruct task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: Columns = Field(default=Columns(), description="which column of the data set is which")
    format: str = Field(
        default="{instruction} {input}",
        max_length=LONGEST_FORMAT,
        description="the prompt of a row that has an input",
    )
    no_input_format: str = Field(
        default="{instruction}", max_length=LONGEST_FORMAT, description="the prompt of a row that has none"
    )
    system_prompt: str | None = Field(
        default=None, max_length=LONGEST_FORMAT, description="a system message for all rows"
    )
    max_tokens: int = Field(default=512, ge=16, le=131_072, description="tokens of a row that are read")

    @field_validator("format", "no_input_format")
    @classmethod
    def _known_placeholders(cls, text: str) -> str:
        return check_format(text, must=["instruction"], may=["input"])

    @model_validator(mode="after")
    def _input_only_where_there_is_one(self) -> Self:
        if "{input}" in self.no_input_format:
            raise ValueError("no_input_format is for rows without an input, so it cannot contain {input}")
        return self


def clean(rows: Sequence[Row], parameters: BaseModel) -> Cleaned:
    """Rows as {"system", "prompt", "completion"}; rows without an instruction or an answer are left out and counted."""
    asked = cast(InstructParameters, parameters)
    columns = asked.columns.named()
    check_columns(rows, columns)
    rows = with_texts(rows, columns.values())
    check_cells(rows, columns.values())
    kept, removed = numbered_rows(), Counter[str]()
    for number, row in enumerate(rows, start=1):
        cells = {role: cell(row.get(column)) for role, column in columns.items()}
        if not cells["instruction"] or not cells["output"]:
            removed["empty"] += 1
            continue
        template = asked.format if cells.get("input") else asked.no_input_format
        prompt = filled(template, cells).strip()
        system = cells.get("system") or asked.system_prompt
        kept.append(Numbered(number, {"system": system, "prompt": prompt, "completion": cells["output"]}))
    check_enough((row.number for row in kept), len(rows), missing="no instruction or no answer")
    return Cleaned(rows=kept, removed=removed)


def text(row: Row) -> str:
    """What rows are compared by."""
    return f"{row['prompt']} {row['completion']}"


def group(row: Row) -> str:
    """Several answers to one prompt belong together: each says much about the others."""
    return f"{row['system'] or ''}\n{row['prompt']}"


INSTRUCT = TaskType(
    name="instruct",
    title="Instruction following",
    schema=InstructParameters,
    clean=clean,
    text=text,
    group=group,
    metric=Metric("completion cross-entropy", "nats/token", 2, "lower"),
    measure="gradients.tasks.instruct.metric:measure",
    by_blocks=True,
    trial="gradients.tasks.instruct.metric:trial",
    train="gradients.tasks.instruct.trainer:train",
    generate="gradients.tasks.workers.generation:generate",
    schedule_share=0.28,
    demonstrations=(
        Demonstration(
            SHIPPED_DATA / "wordnet-definitions" / "rows.jsonl",
            {"columns": {"instruction": "question", "output": "definition"}},
        ),
    ),
)
