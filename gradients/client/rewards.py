"""Trying rewards before a task is posted: part of the contract, version 1."""

from __future__ import annotations

from pydantic import ConfigDict, Field, JsonValue, model_validator

from gradients.client.models import Answer, Shown
from gradients.domain.json import check_storable

MOST_ROWS, MOST_ANSWERS, LONGEST_ANSWER = 16, 4, 16_384


class RewardTrial(Shown):
    """Rewards, and rows and answers to try them on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str = Field(description="a task type whose tasks have rewards")
    parameters: dict[str, JsonValue] = Field(description="the task type's own part of a spec, with its rewards")
    rows: tuple[dict[str, JsonValue], ...] = Field(
        min_length=1, max_length=MOST_ROWS, description="some rows as they stand in the data set"
    )
    answers: tuple[tuple[str, ...], ...] | None = Field(
        default=None,
        max_length=MOST_ROWS,
        description=f"answers to judge, a list for each row, of {MOST_ANSWERS} at most; without it each row's prompt and nothing at all "
        "are judged, which a good reward thinks little of",
    )

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, given: object) -> object:
        check_storable(given)
        return given


class TriedAnswer(Answer):
    """One answer under all rewards."""

    answer: str = Field(description="what was judged")
    reward: float = Field(description="the weighted mean of all rewards, 0 to 1; one that failed counts as 0")
    scores: tuple[float | None, ...] = Field(description="of each reward, 0 to 1; null where it failed on this answer")
    failures: tuple[str, ...] = Field(description="how rewards failed on it; empty when none did")


class TriedRow(Answer):
    """A row with its answers."""

    row: int = Field(description="its number among those that were given, from 1")
    prompt: str = Field(description="the prompt that the mapping of columns made of it")
    answers: tuple[TriedAnswer, ...] = Field(description="in the order in which they were given")


class RewardVerdict(Answer):
    """What rewards say of rows and answers."""

    rewards: tuple[str, ...] = Field(description="the kind of each reward, in the order of the parameters")
    rows: tuple[TriedRow, ...] = Field(description="the rows that a task would keep")
