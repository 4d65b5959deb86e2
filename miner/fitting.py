"""A recipe's plan as it fits this machine: the way of training, the micro-batch, and why. Pure but for `longest_row`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

from pydantic import BaseModel, JsonValue

from gradients.domain.json import JsonObject
from gradients.tasks.base import TaskType, TrainingLoad
from gradients.tasks.footprint import Way
from gradients.tasks.jobs.training import TrainingPlan
from gradients.tasks.picture_footprint import Pipeline, Size
from gradients.tasks.registry import task_type, validate_parameters
from miner.engines import Choice, Speed, choose_engine
from miner.fit import Fit, fit
from miner.memory import Memory, bytes_to_train
from miner.plan import Recipe, plan_training

TEMPLATE_TOKENS = 128  # that chat templates say of their own accord
FEWEST_ROW_TOKENS = 8  # as TrainingPlan has it
LORA_RATE = 10.0  # times a full fine-tune's: the best rates of both differ by about as much at all sizes ("LoRA Without Regret")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a task beyond its type, and what was learnt of it on the way."""

    parameters: Mapping[str, JsonValue] | None = None  # the type's own part; an offer does not tell it
    longest_row: int | None = None  # tokens that no row exceeds; None before the rows are here
    lowered: int = 0  # ways of training that ran out of memory, though they should have fitted
    single_rows: bool = False  # whether the micro-batch is to be as small as it can be


NOTHING = Known()


class Fitted(NamedTuple):
    """A plan that keeps within the memory, or the one that was asked for when none does."""

    plan: TrainingPlan
    needed_bytes: int
    there_bytes: int  # that may be used
    fit: Fit | None  # None for pipelines of images whose shape is not known: their weights alone are counted
    engine: Choice  # the plan's
    row_tokens: int = 0  # that go through the model together at the least; 0 for pictures

    @property
    def fits(self) -> bool:
        """Whether a yes can be kept."""
        is_left = self.fit is None or self.fit.fits  # a way that has not run out of memory before
        return is_left and self.needed_bytes <= self.there_bytes

    @property
    def single_rows(self) -> bool:
        """Whether the micro-batch cannot be smaller."""
        if not self.row_tokens:
            return self.plan.micro_batch_rows == 1
        return (self.plan.micro_batch_tokens or 0) <= self.row_tokens


def fitted_plan(
    recipe: Recipe,
    *,
    kind: str,
    shape: Size,
    memory: Memory,
    known: Known = NOTHING,
    past: Iterable[Speed] = (),
) -> Fitted:
    """The plan for a task of a type. Raises TaskInvalid for parameters that its schema refuses.

    Args:
        memory: that this task may take.
        past: how fast tasks of its type were trained here.
    """
    declared = task_type(kind)
    plan = plan_training(recipe, task_type=kind, base_parameters=shape.parameters)
    if declared.base_family != "language":
        return _of_pictures(declared, plan, shape, memory=memory, known=known)
    asked = Way(plan.method, plan.lora_rank, plan.gradient_checkpointing, plan.load_in_4bit, plan.optimiser)
    load = _load(declared, plan, shape, known)
    found = fit(shape, memory, asked=asked, load=load, lowered=known.lowered)
    if found.fits:
        other = found.way.method != plan.method
        rate = LORA_RATE if other else 1.0
        plan = plan.model_copy(
            update={
                "method": found.way.method,
                "micro_batch_tokens": max(load.tokens if known.single_rows else found.tokens, FEWEST_ROW_TOKENS),
                "gradient_checkpointing": found.way.checkpointing,
                "load_in_4bit": found.way.load_in_4bit,
                "optimiser": found.way.optimiser,
                "learning_rate": min(plan.learning_rate * rate, 1.0),
                "probe_learning_rates": tuple(min(each * rate, 1.0) for each in plan.probe_learning_rates),
            }
        )
    # answers are drawn in one process, and what is quantised cannot lie in parts
    apart = declared.judge is not None or plan.load_in_4bit
    choice = choose_engine(
        plan.engine,
        method=plan.method,
        parameters=shape.parameters,
        on_gpu=memory.is_gpu,
        gpus=1 if apart else min(memory.gpus, plan.batch_rows),
        past=past,
    )
    plan = plan.model_copy(update={"engine": choice.engine, "processes": choice.processes})
    return Fitted(plan, found.needed(load.tokens), found.there, found, choice, load.tokens)


def _of_pictures(declared: TaskType, plan: TrainingPlan, shape: Size, *, memory: Memory, known: Known) -> Fitted:
    """The same for a pipeline of images; where its files don't tell its shape, or all weights would train, these alone are counted."""
    choice = Choice("ours", "TRL trains no pictures")
    plan = plan.model_copy(update={"engine": choice.engine})
    if not isinstance(shape, Pipeline) or plan.method != "lora":
        needed = bytes_to_train(shape.parameters, method=plan.method, memory=memory)
        return Fitted(plan, needed, memory.bytes, None, choice)
    asked = Way(plan.method, plan.lora_rank, plan.gradient_checkpointing)
    load = declared.load(_asked(declared, known), plan)
    found = fit(shape, memory, asked=asked, load=load, lowered=known.lowered)
    if found.fits:
        rows = 1 if known.single_rows else min(found.tokens, plan.micro_batch_rows or found.tokens)
        plan = plan.model_copy(update={"micro_batch_rows": rows, "gradient_checkpointing": found.way.checkpointing})
    return Fitted(plan, found.needed(load.tokens), found.there, found, choice)


def _load(declared: TaskType, plan: TrainingPlan, shape: Size, known: Known) -> TrainingLoad:
    """What a step of the type has in memory, whose rows are no longer than those that are known, or than what the base reads."""
    limits = (plan.max_tokens, getattr(shape, "context", None), known.longest_row)
    most = max(min(each for each in limits if each is not None), FEWEST_ROW_TOKENS)
    return declared.load(_asked(declared, known), plan.model_copy(update={"max_tokens": most}))


def _asked(declared: TaskType, known: Known) -> BaseModel | None:
    """The task's own parameters, where they are known."""
    if known.parameters is None:
        return None
    return declared.schema.model_validate(validate_parameters(declared, cast(JsonObject, known.parameters)))


def longest_row(file: Path) -> int:
    """Tokens that hardly a row in a file of JSON lines exceeds: one is a byte at the least, and turns take fewer of them than JSON does.

    Should a type write more around its rows than they say, memory that runs out is answered as ever.
    """
    with file.open("rb") as lines:
        return max(map(len, lines), default=0) + TEMPLATE_TOKENS
