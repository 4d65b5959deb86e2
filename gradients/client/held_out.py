"""Held-out rows of a scored task, and what base and miners have on each: part of the contract, version 1."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from gradients.client.models import Answer, MetricName
from gradients.domain.evaluation import Better

MOST_ROWS, USUAL_ROWS = 100, 20  # in one answer
Order = Literal["gained", "lost", "file"]


class HeldOutRow(Answer):
    """One held-out row, and what each entrant has on it."""

    row: int = Field(description="its number in the held-out file, from 1")
    content: dict[str, JsonValue] | None = Field(
        description="the row as it was measured; null where rows are no longer kept"
    )
    is_cut: bool = Field(
        description="whether `content` is not whole: long texts and lists are cut where rows are listed"
    )
    made_up: bool = Field(description="whether it is synthetic, written by a language model")
    base: float | None = Field(description="the metric of the untouched base model on this row; null where it has none")
    miners: dict[str, float] = Field(
        description="the metric of each measured miner on this row, by hotkey; who stopped early is not on every row"
    )
    gain: float | None = Field(
        description="how much better than the base the asked miner is on this row, in the metric's unit; below 0 it is worse; "
        "null where one of them is not measured"
    )


class HeldOutRows(Answer):
    """A page of a task's held-out rows."""

    metric: MetricName = Field(description="which number is measured")
    better: Better = Field(description="whether a lower or a higher number is better")
    miner: str | None = Field(description="hotkey whose gains these are; null when no miner was measured")
    total: int = Field(description="rows that the task was measured on")
    gained: int = Field(description="rows on which this miner is better than the base")
    lost: int = Field(description="rows on which it is worse")
    kept: bool = Field(description="whether the rows themselves are still here; their numbers stay")
    rows: tuple[HeldOutRow, ...] = Field(description="in the order that was asked for")
    next: int | None = Field(description="give it as `after` for the next page; null on the last one")
