"""A recipe's plan as it fits this machine: the way of training, the micro-batch, and why. Pure but for `shape_in`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from gradients.tasks.jobs import TrainingPlan
from gradients.tasks.registry import task_type
from miner.engines import Choice, Speed, choose_engine
from miner.fit import Fit, fit
from miner.footprint import Shape, Way, like_others
from miner.memory import Memory, bytes_to_train
from miner.plan import Recipe, plan_training

LORA_RATE = 10.0  # times a full fine-tune's: the best rates of both differ by about as much at all sizes ("LoRA Without Regret")


class Fitted(NamedTuple):
    """A plan that keeps within the memory, or the one that was asked for when none does."""

    plan: TrainingPlan
    needed_bytes: int
    there_bytes: int  # that may be used
    fit: Fit | None  # None for pipelines of images, whose weights alone are counted
    engine: Choice  # the plan's

    @property
    def fits(self) -> bool:
        """Whether a yes can be kept."""
        return self.needed_bytes <= self.there_bytes


def fitted_plan(recipe: Recipe, *, kind: str, shape: Shape, memory: Memory, past: Iterable[Speed] = ()) -> Fitted:
    """The plan for a task of a type.

    Args:
        memory: that this task may take.
        past: how fast tasks of its type were trained here.
    """
    plan = plan_training(recipe, task_type=kind, base_parameters=shape.parameters)
    if task_type(kind).base_family != "language":
        choice = Choice("ours", "TRL trains no pictures")
        needed = bytes_to_train(shape.parameters, method=plan.method, memory=memory)
        return Fitted(plan.model_copy(update={"engine": choice.engine}), needed, memory.bytes, None, choice)
    asked = Way(plan.method, plan.lora_rank, plan.gradient_checkpointing, plan.load_in_4bit, plan.optimiser)
    found = fit(shape, memory, asked=asked, row_tokens=plan.max_tokens)
    if found.fits:
        other = found.way.method != plan.method
        rate = LORA_RATE if other else 1.0
        plan = plan.model_copy(
            update={
                "method": found.way.method,
                "micro_batch_tokens": found.tokens,
                "gradient_checkpointing": found.way.checkpointing,
                "load_in_4bit": found.way.load_in_4bit,
                "optimiser": found.way.optimiser,
                "learning_rate": min(plan.learning_rate * rate, 1.0),
                "probe_learning_rates": tuple(min(each * rate, 1.0) for each in plan.probe_learning_rates),
            }
        )
    # answers are drawn in one process, and what is quantised cannot lie in parts
    apart = task_type(kind).judge is not None or plan.load_in_4bit
    choice = choose_engine(
        plan.engine,
        method=plan.method,
        parameters=shape.parameters,
        on_gpu=memory.is_gpu,
        gpus=1 if apart else min(memory.gpus, plan.batch_rows),
        past=past,
    )
    plan = plan.model_copy(update={"engine": choice.engine, "processes": choice.processes})
    return Fitted(plan, found.needed(plan.max_tokens), found.there, found, choice)


def shape_in(folder: Path, parameters: int) -> Shape:
    """The shape of a base in a folder; of models of its size where it has no config of a language model."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return like_others(parameters)
    return Shape.of(config, parameters) if isinstance(config, dict) else like_others(parameters)
