"""What a miner's own searches found, as the first guess of the next task like it. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from gradients.tasks.jobs.training import TrainingPlan, TrainResult

LEAST_TASKS, MOST_TASKS = 3, 20  # fewer say nothing, older ones no more than the newest
ALIKE = 3.0  # times as many weights, or as few, at most
_FARTHEST = 8.0  # from the recipe's own rate, either way


class Found(BaseModel):
    """The best whole run of one task's search, against what its plan had begun with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str
    method: str
    parameters: int = Field(gt=0, description="of the base")
    rate_factor: float = Field(gt=0, description="on the recipe's learning rate")
    batch_rows: int = Field(ge=1)
    epochs: float = Field(gt=0)

    @classmethod
    def of(cls, result: TrainResult, plan: TrainingPlan, *, recipe_rate: float, parameters: int) -> Self | None:
        """What there is to learn from a task; None when nothing was searched, or nothing better than the base was found.

        Args:
            plan: that it was trained by.
            recipe_rate: the learning rate that the recipe alone would have begun with.
        """
        if result.candidates < 2 or not result.beats_base:
            return None
        return cls(
            recipe=plan.recipe,
            method=plan.method,
            parameters=parameters,
            rate_factor=result.learning_rate / recipe_rate,
            batch_rows=result.batch_rows,
            epochs=result.epochs,
        )

    def is_like(self, plan: TrainingPlan, *, parameters: int) -> bool:
        """Whether it was found by the same recipe and way of training on a base of about the size."""
        alike = parameters / ALIKE <= self.parameters <= parameters * ALIKE
        return alike and (self.recipe, self.method) == (plan.recipe, plan.method)


def informed(plan: TrainingPlan, past: Iterable[Found], *, parameters: int) -> TrainingPlan:
    """The plan begun where searches for tasks of its type ended: at the median rate, batch and number of passes.

    Args:
        past: of tasks of the plan's type, the newest first.
    """
    alike = [found for found in past if found.is_like(plan, parameters=parameters)][:MOST_TASKS]
    if plan.candidates < 2 or len(alike) < LEAST_TASKS:
        return plan
    factor = statistics.median(found.rate_factor for found in alike)
    factor = min(max(factor, 1 / _FARTHEST), _FARTHEST)
    return plan.model_copy(
        update={
            "learning_rate": min(factor * plan.learning_rate, 1.0),
            "probe_learning_rates": tuple(min(factor * rate, 1.0) for rate in plan.probe_learning_rates),
            "batch_rows": round(statistics.median(found.batch_rows for found in alike)),
            "max_epochs": statistics.median(found.epochs for found in alike),
        }
    )
