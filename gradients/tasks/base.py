"""What a task type is: one declaration, light enough for the control plane, that names its heavy parts as strings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

import gradients
from gradients.datasets.rows import Cleaned, Numbered, ReadSource, Row, SplitSizes
from gradients.domain.evaluation import Metric
from gradients.domain.json import Json
from gradients.tasks.hours import Effort
from gradients.tasks.jobs.training import TrainingPlan

SHIPPED_DATA = Path(gradients.__file__).parent / "assets" / "data"


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A task of a type on data that ships with it, as customers ask for one: what the market on one machine posts."""

    dataset: Path
    parameters: Mapping[str, Json] = field(default_factory=dict)
    base: str = "nano-lm"


@dataclass(frozen=True, slots=True)
class TrainingLoad:
    """What a type's trainer has in memory beside the base, and beside what learns of it."""

    # That go through the model together at the least: of a longest row, or of all answers that are compared.
    tokens: int
    logits: float = 1.0  # bytes of a token's logits, in times of what the cross-entropy of an answer keeps of them
    reference: bool = False  # whether a copy of the base lies beside one whose every weight trains
    pixels: int | None = None  # a side of pictures, which then stand for tokens; None: as the base was made for


# Parameters (None before a task's are known) and plan to the load of the largest step.
LoadOf = Callable[[Any, TrainingPlan], TrainingLoad]  # Any: a model of the type's own schema


def load_of_rows(asked: Any, plan: TrainingPlan) -> TrainingLoad:  # noqa: ANN401 (any schema)
    """Rows that are learnt from one by one, of which the plan and the schema's `max_tokens`, if it has one, cut what is longer."""
    return TrainingLoad(row_tokens(asked, plan))


def row_tokens(asked: Any, plan: TrainingPlan) -> int:  # noqa: ANN401
    """Tokens that are read of a row at most."""
    return min(plan.max_tokens, getattr(asked, "max_tokens", plan.max_tokens))


@dataclass(frozen=True, slots=True)
class TaskType:
    """One kind of fine-tuning.

    `schema` checks the customer's parameters and gives them their normal form. `clean` maps the source's columns to the type's own, drops
    what is empty or repeated, and raises DatasetInvalid with row numbers for what is malformed. `text` is what a row is compared by when
    near-duplicates are looked for; rows for which `group` says the same, such as the prompt of several answers, are held out or trained
    on together. `measure` and `train` name worker functions (see jobs/) that only worker processes import.

    A type with data beside the data set names the parameters that say where it is in `sources`; whoever uploads data sets uploads these
    too. `enrich` then brings it into the cleaned rows, before they are split; its bytes are the salt that its random choices come from.

    `needs_sandbox` says of checked parameters whether workers run programs that strangers wrote; miners without a sandbox decline these.

    `load` says what its trainer takes of memory, by parameters and plan, so that a miner can tell whether a task fits before it takes it.

    `schedule_share` is the type's part of the synthetic tasks and of their pay, beside those of the other types with tasks. What a version
    of the rules of pay (gradients/scoring/rules.py) says of the type goes before it.
    """

    name: str
    title: str
    schema: type[BaseModel]
    clean: Callable[[Sequence[Row], BaseModel], Cleaned]
    text: Callable[[Row], str]
    metric: Metric
    measure: str  # "module:function", MeasureJob in, {} out, one EntrantResult file per entrant
    train: str  # "module:function", TrainJob in, TrainResult out
    generate: str  # "module:function", answers a prompt with base and winner for people to look at
    schedule_share: float
    demonstrations: tuple[Demonstration, ...]  # at least one; tasks take turns where there are several
    effort: Effort = field(default_factory=Effort)  # by which hours and GPUs are given
    load: LoadOf = load_of_rows
    base_family: Literal["language", "image"] = "language"  # of the models that it fine-tunes
    split_sizes: SplitSizes = field(default_factory=SplitSizes)
    row_characters: int = 1_000_000  # of one row in its source
    sources: tuple[str, ...] = ()
    group: Callable[[Row], str] | None = None
    needs_sandbox: Callable[[BaseModel], bool] = lambda _: False
    by_blocks: bool = False  # whether `measure` takes blocks of rows, so that a field can be raced
    finish: str | None = None  # "module:function", MeasureJob without entrants in; run when all are measured
    judge: str | None = None  # "module:function", JudgeJob in, JudgeResult out; of a type whose customers bring rewards
    trial: str | None = None  # "module:function", TrialJob in, TrialResult out; tried before a task is offered
    enrich: Callable[[Sequence[Numbered], BaseModel, bytes, ReadSource], Cleaned] | None = None
