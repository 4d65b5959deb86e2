"""What customers and a validator's API send each other over HTTP, version 1. The API's OpenAPI document is made of these models.

An answer may hold more than these fields: a validator that is newer than its customer's client is still understood.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gradients.domain.evaluation import Better
from gradients.domain.json import JsonObject
from gradients.domain.submission import SubmissionState
from gradients.domain.task import TaskState
from gradients.errors import Blame
from gradients.tasks.registry import TaskSpec

BEST = "best"  # in place of a hotkey: the winner's
UPLOAD_PREFIX = "upload:"  # and then the sha256 of the file and its ending
HOSTED_PREFIXES = ("hub:", "http://", "https://", "s3://")  # sources that a validator fetches by itself


@cache
def examples() -> dict[str, JsonObject]:
    """An example of each body that the API takes or gives, by its model's name."""
    read: dict[str, JsonObject] = json.loads((Path(__file__).parent / "examples.json").read_text(encoding="utf-8"))
    return read


def _with_example(schema: dict[str, Any], model: type[BaseModel]) -> None:
    if model.__name__ in examples():
        schema["examples"] = [examples()[model.__name__]]


class Shown(BaseModel):
    """A model whose example, where there is one, stands in the API's document."""

    model_config = ConfigDict(json_schema_extra=_with_example)


class Answer(Shown):
    """Base of everything that the API answers with."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class PostedSpec(Shown, TaskSpec):
    """A task as customers ask for it."""


class MetricName(Answer):
    """Which number is measured on the held-out rows."""

    name: str = Field(description="what is measured, such as 'completion cross-entropy'")
    unit: str = Field(description="unit of every loss of the task, such as 'nats/token'")


class TaskFailure(Answer):
    """Why a task ended without scores."""

    blame: Blame = Field(description="whose failure it is: the customer's, the operator's, a miner's, or the outside's")
    code: str = Field(description="stable and machine-readable")
    message: str = Field(description="what went wrong and what to do, for people")


class TaskSummary(Answer):
    """One task in a list."""

    id: str = Field(description="the task's id: its type, a hyphen and 12 hex digits")
    type: str = Field(description="name of the task type, such as 'instruct'")
    state: TaskState = Field(
        description="what is true of the task; 'scored', 'failed' and 'cancelled' are the last ones"
    )
    note: str = Field(default="", description="the state in a sentence: what happens now, or how it ended")
    has_model: bool | None = Field(
        default=None, description="whether there is a best model to download; null until the task has ended"
    )
    base: str = Field(description="the base model that is fine-tuned; 'task:' and an id is the winner of another task")
    continues: str | None = Field(default=None, description="the task whose winner is trained further; null for none")
    hours: float = Field(description="training budget of each miner")
    created_at: float = Field(description="when it was posted, Unix seconds")
    metric: MetricName = Field(description="which number is measured")
    better: Better = Field(description="whether a lower or a higher number is better")
    rows: int | None = Field(description="number of held-out rows; null until the data is prepared")
    failure: TaskFailure | None = Field(description="why it has failed; null unless it has")


class SourceReport(Answer):
    """What became of one of several data sets that were merged."""

    dataset: str = Field(description="where its rows come from; of a file its name")
    rows: int = Field(description="rows in it")
    taken: int = Field(description="of these, rows that its limit or weight lets in")
    usable: int = Field(description="of these, rows that can be trained on")
    repeated: int = Field(description="of these, rows that say what a row of an earlier data set says")
    train_rows: int | None = Field(
        description="rows of it that miners get; null where near-duplicates were not looked for"
    )
    held_out_rows: int | None = Field(description="rows of it that are held out; null with `train_rows`")


class TaskData(Answer):
    """What preparation made of a task's data set and base model."""

    train_rows: int = Field(description="rows that miners get")
    held_out_rows: int = Field(description="rows that only the validator has until the task is scored")
    made_up_rows: int = Field(description="how many of the held-out rows are synthetic, written by a language model")
    removed: dict[str, int] = Field(description="how many rows, or turns of conversations, were left out, by reason")
    sources: tuple[SourceReport, ...] = Field(
        default=(), description="of several data sets that were merged, each; empty for one alone"
    )
    tried_rows: int = Field(default=0, description="rows that were tried with the base before the task was offered")
    cut_rows: int = Field(default=0, description="how many of these lose tokens to max_tokens or to the base's context")
    train_sha256: str = Field(description="sha256 of the file with the rows that miners get")
    held_out_commitment: str = Field(description="sha256 over a secret salt and the held-out file's sha256")
    base_digest: str = Field(description="sha256 over the base model's files")
    base_parameters: int = Field(description="number of weights of the base model")


class TaskBlocks(Answer):
    """The blocks of the chain between which a task runs."""

    started: int = Field(description="the block in which the miners were drawn")
    deadline: int = Field(description="the last block in which a miner's commitment counts")
    reveal_until: int = Field(description="the last block in which a miner's model is collected")
    started_at: float | None = Field(default=None, description="when the miners were drawn, Unix seconds")
    deadline_at: float | None = Field(
        default=None,
        description="when the deadline is expected, Unix seconds; the block decides, and the chain its pace. "
        "Null once all miners have failed, which brings it forward",
    )
    reveal_until_at: float | None = Field(
        default=None, description="when collecting is expected to end, Unix seconds; the block decides"
    )


class MinerProgress(Answer):
    """How far a miner is, by its own word. Nothing depends on it."""

    phase: str = Field(description="what the miner is doing, such as 'training'")
    recipe: str = Field(description="name of the miner's recipe")
    fraction: float = Field(description="share of the training that is done, 0 to 1")
    step: int = Field(description="optimiser steps so far")
    loss: float | None = Field(description="training loss of the last steps; null before the first")
    problem: str = Field(description="what is wrong, for people; empty when nothing is")


class MinerResult(Answer):
    """One miner's part in a task."""

    uid: int = Field(description="the miner's number on the subnet at the start of the task")
    hotkey: str = Field(description="the miner's hotkey, an SS58 address")
    recipe: str = Field(description="name of the miner's recipe, by its own word")
    state: SubmissionState = Field(description="what is true of the miner's submission")
    loss: float | None = Field(description="the metric on the held-out rows; null until scored or when not measured")
    stderr: float | None = Field(description="standard error of `loss`; null with it")
    loss_low: float | None = Field(default=None, description="lower end of the 95 % interval of `loss`; null with it")
    loss_high: float | None = Field(default=None, description="upper end of the 95 % interval of `loss`; null with it")
    extras: dict[str, float] = Field(description="numbers beside the metric, by name")
    rank: int | None = Field(description="place among the fine-tunes, 1 is best; null for copies and what is not one")
    gain: float | None = Field(
        description="how much better than the base, in parts of the base's value; null with `loss`"
    )
    gain_low: float | None = Field(
        default=None,
        description="lower end of the 95 % interval of `gain`, from differences row by row; null with it, and for who stopped early",
    )
    gain_high: float | None = Field(default=None, description="upper end of that interval; null with it")
    chance: float | None = Field(description="chance of being the task's best model, 0 to 1; null until it is scored")
    prize: float | None = Field(description="`chance` times the task's size: what weights add up; null with it")
    copy_of: str | None = Field(description="hotkey of the earlier model that this one repeats; null for none")
    reason: str = Field(description="why this place, or what went wrong: the validator's words, whole")
    repo: str | None = Field(description="path of the model's listing in this API; null when there is no model to get")
    dropped_at: float | None = Field(
        default=None,
        description="when the model's files were dropped to make room, Unix seconds; null while they are kept",
    )
    progress: MinerProgress | None = Field(description="how far the training is; null when the miner has not said")


class Ancestor(Answer):
    """A task that another one goes on from."""

    task: str = Field(description="its id")
    type: str = Field(description="its type")
    base: str = Field(description="the base that its models were trained from")
    hotkey: str | None = Field(description="whose model won it, an SS58 address; null when that is not known any more")


class TaskDetails(TaskSummary):
    """One task with everything that may be seen of it now. Losses are null until it is scored."""

    lineage: tuple[Ancestor, ...] = Field(
        default=(), description="the tasks that it goes on from, the first of them first; empty for a task on a base"
    )
    continued_by: tuple[str, ...] = Field(
        default=(), description="ids of tasks that go on from its winner, oldest first"
    )

    data: TaskData | None = Field(description="what preparation left behind; null before it")
    blocks: TaskBlocks | None = Field(description="between which blocks it runs; null before its start")
    last_event: int = Field(default=0, description="id of the newest event: a stream behind it tells what comes next")
    base_loss: float | None = Field(description="the metric of the untouched base model; null until scored")
    base_stderr: float | None = Field(description="standard error of `base_loss`; null with it")
    miners: tuple[MinerResult, ...] = Field(description="the miners of the task, best first, then by uid")

    @property
    def best(self) -> MinerResult | None:
        """The winner, or None when nobody has a place."""
        return next((miner for miner in self.miners if miner.rank == 1), None)


class TaskList(Answer):
    """A customer's tasks."""

    tasks: tuple[TaskSummary, ...] = Field(description="newest first")
    next: str | None = Field(default=None, description="give it as `cursor` for the next page; null on the last one")


class TaskEvent(Answer):
    """One thing that happened to a task: the data of an event named 'task' of its stream."""

    id: int = Field(description="grows with time; give it as Last-Event-ID to hear what came after it")
    at: float = Field(description="when it happened, Unix seconds")
    kind: Literal["created", "state", "drawn", "miner", "measured", "waiting"] = Field(
        description="posted; a new state; the miners are drawn and the blocks set; a miner's submission has changed; "
        "an entrant is measured; no miner has taken the task as yet"
    )
    state: TaskState | None = Field(default=None, description="the new state, of 'created' and 'state'")
    hotkey: str | None = Field(default=None, description="which miner, of 'miner' and 'measured'; 'base' for the base")
    submission: SubmissionState | None = Field(default=None, description="the submission's new state, of 'miner'")


class TaskProgress(Answer):
    """How far miners are: the data of an event named 'progress' of a task's stream, which has no id and is never sent again."""

    miners: dict[str, MinerProgress] = Field(description="by hotkey")


class Refusal(Answer):
    """Any answer that is not a success."""

    code: str = Field(description="stable and machine-readable")
    message: str = Field(description="what was wrong, for people")
    fix: str | None = Field(description="what to do about it; null where nothing is known")
