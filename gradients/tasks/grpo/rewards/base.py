"""What every reward has: a weight, the columns that it reads, and a number from 0 to 1 for an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from gradients.errors import TaskInvalid

Row = Mapping[str, JsonValue]  # "prompt", "system", and the columns that some reward reads


class Case(NamedTuple):
    """One answer to judge."""

    completion: str
    row: Row


Verdict = float | TaskInvalid  # of one answer: 0 to 1, or how the customer's reward failed on it


class Reward(BaseModel):
    """What a customer says about any reward."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(default=1.0, gt=0, le=1000, description="against the other rewards' weights")


def text_of(row: Row, column: str) -> str:
    """A column's text."""
    return str(row.get(column, "")).strip()


def after(completion: str, marker: str) -> str:
    """What stands behind the last `marker`; nothing when it is not there, everything when none is asked for."""
    if not marker:
        return completion
    return completion.rpartition(marker)[2] if marker in completion else ""
