"""From a recipe and a task to the hyper-parameters of one run, and to the moment when training must be done. Pure."""

from __future__ import annotations

import math
import sys
import tomllib
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gradients.config import shipped_configs
from gradients.errors import SetupError
from gradients.tasks.jobs.training import TrainingPlan
from gradients.tasks.registry import TYPES

COMMIT_BLOCKS = 3  # for the commitment to be included before the deadline block


class LearningRate(BaseModel):
    """The learning rate for bases up to a size."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    up_to_parameters: float = Field(gt=0, description="size of the base; write inf for the last row")
    value: float = Field(gt=0, le=1)
    probes: tuple[float, ...] = Field(default=(), description="rates to try briefly first")
    plan: dict[str, Any] = Field(default_factory=dict, description="fields of the plan that differ for such bases")


class RateFactor(BaseModel):
    """What learning rates are multiplied by for bases up to a size."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    up_to_parameters: float = Field(gt=0, description="size of the base; write inf for the last row")
    value: float = Field(gt=0)


class TypeChanges(BaseModel):
    """What a recipe does otherwise for one task type."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate_factor: Annotated[float, Field(gt=0)] | tuple[RateFactor, ...] = Field(
        default=1.0, description="on the learning rate and on its probes; one number, or rows by size of the base"
    )
    plan: dict[str, Any] = Field(default_factory=dict, description="fields of the plan that differ")
    options: dict[str, Any] = Field(default_factory=dict, description="knobs of the type's own trainer; see its README")


BySize = TypeVar("BySize", LearningRate, RateFactor)


class Recipe(BaseModel):
    """A way to train, as configs/recipes/*.toml describe one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=64)
    title: str = ""
    plan: dict[str, Any] = Field(description="fields of TrainingPlan but for recipe, learning_rate and probes")
    learning_rate: tuple[LearningRate, ...] = Field(min_length=1, description="by size of the base, smallest first")
    types: dict[str, TypeChanges] = Field(default_factory=dict, description="by task type")


def read_recipe(file: Path) -> Recipe:
    """The recipe in `file`. Raises SetupError that names what is wrong with it."""
    try:
        recipe = Recipe.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
        for task_type, row in product(TYPES, recipe.learning_rate):
            size = int(row.up_to_parameters) if math.isfinite(row.up_to_parameters) else sys.maxsize
            plan_training(recipe, task_type=task_type, base_parameters=size)
    except OSError as error:
        shipped = ", ".join(sorted(each.stem for each in (shipped_configs() / "recipes").glob("*.toml")))
        fix = f"Name a shipped one ({shipped}), or a file that is there; see configs/recipes/"
        raise SetupError(f"The recipe {file} cannot be read: {error.strerror}", fix=fix) from error
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise SetupError(f"The recipe {file} is not usable: {error}", fix="See configs/recipes/README.md") from error
    return recipe


def plan_training(recipe: Recipe, *, task_type: str, base_parameters: int) -> TrainingPlan:
    """The recipe's hyper-parameters for a task of this type on a base of this size."""
    changes = recipe.types.get(task_type, TypeChanges())
    row = _for_size(recipe.learning_rate, base_parameters)
    factor = changes.learning_rate_factor
    if not isinstance(factor, float):
        factor = _for_size(factor, base_parameters).value if factor else 1.0
    return TrainingPlan.model_validate(
        {
            **recipe.plan,
            **row.plan,
            **changes.plan,
            "recipe": recipe.name,
            "learning_rate": row.value * factor,
            "probe_learning_rates": tuple(rate * factor for rate in row.probes),
            "options": changes.options,
        }
    )


def _for_size(rows: Sequence[BySize], base_parameters: int) -> BySize:
    """The first row that is large enough, or the last one."""
    ordered = sorted(rows, key=lambda row: row.up_to_parameters)
    return next((row for row in ordered if base_parameters <= row.up_to_parameters), ordered[-1])


def seconds_to_train(*, block: int, deadline_block: int, block_seconds: float, keep_seconds: float) -> float:
    """How long training may take from now, so that its result is committed before the deadline; can be negative."""
    return (deadline_block - COMMIT_BLOCKS - block) * block_seconds - keep_seconds
