"""DPO tasks: a prompt with two answers, of which people (or a rule) prefer one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import cast

from pydantic import BaseModel, ConfigDict, Field, field_validator

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
from gradients.datasets.spool import Made
from gradients.domain.evaluation import Metric
from gradients.tasks.base import SHIPPED_DATA, Demonstration, TaskType, TrainingLoad, row_tokens
from gradients.tasks.dpo.turns import in_words
from gradients.tasks.hours import Effort
from gradients.tasks.turns import are_turns, read_each


class Columns(BaseModel):
    """Which column of the data set is which."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = Field(default="prompt", min_length=1, description="what is asked")
    chosen: str = Field(default="chosen", min_length=1, description="the preferred answer")
    rejected: str = Field(default="rejected", min_length=1, description="the other answer")
    system: str | None = Field(default=None, description="a system message of each row's own")

    def named(self) -> dict[str, str]:
        """role -> column, of the columns that are used."""
        return {role: column for role, column in self.model_dump().items() if column is not None}


class DpoParameters(BaseModel):
    """What a customer says about a DPO task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: Columns = Field(default=Columns(), description="which column of the data set is which")
    prompt_format: str = Field(default="{prompt}", max_length=LONGEST_FORMAT, description="how a prompt is written")
    chosen_format: str = Field(
        default="{chosen}", max_length=LONGEST_FORMAT, description="how a chosen answer is written; may use {prompt}"
    )
    rejected_format: str = Field(
        default="{rejected}", max_length=LONGEST_FORMAT, description="how a rejected answer is written; likewise"
    )
    system_prompt: str | None = Field(
        default=None, max_length=LONGEST_FORMAT, description="a system message for all rows"
    )
    beta: float = Field(
        default=0.1, gt=0, le=10, description="how strictly the model is held to the base; of the DPO loss"
    )
    max_tokens: int = Field(
        default=512, ge=16, le=131_072, description="tokens of a prompt with an answer that are read"
    )

    @field_validator("prompt_format")
    @classmethod
    def _prompt_only(cls, text: str) -> str:
        return check_format(text, must=["prompt"])

    @field_validator("chosen_format")
    @classmethod
    def _chosen_and_prompt(cls, text: str) -> str:
        return check_format(text, must=["chosen"], may=["prompt"])

    @field_validator("rejected_format")
    @classmethod
    def _rejected_and_prompt(cls, text: str) -> str:
        return check_format(text, must=["rejected"], may=["prompt"])


def clean(rows: Sequence[Row], parameters: BaseModel) -> Cleaned:
    """Rows as {"system", "prompt", "chosen", "rejected"}, with "history" where something was said before the prompt.

    Rows that lack one of the three, or whose answers are the same, are left out and counted.
    """
    asked = cast(DpoParameters, parameters)
    columns = asked.columns.named()
    in_turns = any(are_turns(row.get(asked.columns.chosen)) for row in rows)
    there = {column for row in rows for column in row}
    implicit = in_turns and asked.columns.prompt not in there  # then the prompt stands in front of both answers
    check_columns(rows, {role: column for role, column in columns.items() if role != "prompt" or not implicit})
    words = read_each(rows, lambda row: in_words(row, columns), column=asked.columns.chosen)
    check_cells(Made(words, lambda said: said.cells), columns.values())
    kept, removed = numbered_rows(), Counter[str]()
    for number, (row, own_system, history) in enumerate(words, start=1):
        cells = {role: cell(row.get(column)) for role, column in columns.items()}
        if not cells["prompt"] or not cells["chosen"] or not cells["rejected"]:
            removed["empty"] += 1
        elif cells["chosen"] == cells["rejected"]:
            removed["no preference"] += 1
        else:
            formats = {"prompt": asked.prompt_format, "chosen": asked.chosen_format, "rejected": asked.rejected_format}
            written = {role: filled(template, cells).strip() for role, template in formats.items()}
            system = own_system or cells.get("system") or asked.system_prompt
            before: Row = {"history": list(history)} if history else {}
            kept.append(Numbered(number, {"system": system, **before, **written}))
    check_enough((row.number for row in kept), len(rows), missing="no prompt, or not two answers that differ")
    return Cleaned(rows=kept, removed=removed)


def text(row: Row) -> str:
    """What rows are compared by: all that is said but the system message."""
    return " ".join([*_before(row), f"{row['prompt']} {row['chosen']} {row['rejected']}"])


def group(row: Row) -> str:
    """Pairs of one prompt belong together: each one's chosen answer may be another one's rejected."""
    return "\n".join([str(row["system"] or ""), *_before(row), str(row["prompt"])])


def _before(row: Row) -> list[str]:
    history = cast(Sequence[dict[str, str]], row.get("history") or ())
    return [text for each in history for text in (each["prompt"], each["completion"])]


DPO = TaskType(
    name="dpo",
    title="Preferences (DPO)",
    schema=DpoParameters,
    clean=clean,
    text=text,
    group=group,
    metric=Metric("DPO loss against the base", "nats/pair", 2, "lower"),
    measure="gradients.tasks.dpo.metric:measure",
    by_blocks=True,
    trial="gradients.tasks.dpo.metric:trial",
    train="gradients.tasks.dpo.trainer:train",
    generate="gradients.tasks.workers.generation:generate",
    schedule_share=0.17,
    demonstrations=(Demonstration(SHIPPED_DATA / "wordnet-preferences" / "rows.jsonl", {"beta": 0.1}),),
    effort=Effort(work_factor=1.4, gpu_factor=3),  # each pair passes through the reference too
    # a loss needs both answers; what the base finds of them is asked before the training, so no copy of it is kept
    load=lambda asked, plan: TrainingLoad(2 * row_tokens(asked, plan)),
)
