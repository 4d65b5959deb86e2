"""Rewards of answers, given by programs."""

from __future__ import annotations

from pydantic import Field, JsonValue

from gradients.tasks.jobs.message import Parameters, WorkerMessage


class JudgeJob(WorkerMessage):
    """Arguments of a type's `judge`: what a customer's rewards say of answers, before a task is posted."""

    parameters: Parameters = Field(description="the task type's parameters in normal form")
    rows: tuple[dict[str, JsonValue], ...] = Field(min_length=1, description="as they stand in the source")
    answers: tuple[tuple[str, ...], ...] | None = Field(
        default=None, description="to judge, for each row; None: nothing at all, and the row's own prompt"
    )


class JudgedAnswer(WorkerMessage):
    """One answer under all rewards."""

    answer: str
    reward: float = Field(description="the weighted mean, 0 to 1")
    scores: tuple[float | None, ...] = Field(description="of each reward, 0 to 1; None where it failed on this answer")
    failures: tuple[str, ...] = Field(description="how rewards failed on it")


class JudgedRow(WorkerMessage):
    """A row and its answers."""

    row: int = Field(description="its number among those that were given, from 1")
    prompt: str
    answers: tuple[JudgedAnswer, ...]


class JudgeResult(WorkerMessage):
    """What a type's `judge` returns."""

    rewards: tuple[str, ...] = Field(description="the kind of each reward, in the order of the parameters")
    rows: tuple[JudgedRow, ...] = Field(description="those that a task would keep")
