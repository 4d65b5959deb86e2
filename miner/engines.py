"""Which engine makes the steps of a run: what the recipe says, else what was faster on this machine, else our own. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

from gradients.tasks.jobs.training import TrainingPlan, TrainResult
from miner.experience import ALIKE

Engine = Literal["ours", "trl"]
FASTER = 1.05  # times as many tokens a second: less is a machine's mood


class Speed(BaseModel):
    """How fast one task was trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Engine
    method: str
    parameters: int = Field(gt=0, description="of the base")
    tokens_per_second: float = Field(gt=0, description="of train rows, in whole runs")

    @classmethod
    def of(cls, result: TrainResult, plan: TrainingPlan, *, parameters: int) -> Self | None:
        """What a task says; None where nothing was measured."""
        if not result.tokens_per_second:
            return None
        return cls(
            engine=result.engine,
            method=plan.method,
            parameters=parameters,
            tokens_per_second=result.tokens_per_second,
        )


def alike(past: Iterable[Speed], *, method: str, parameters: int) -> list[Speed]:
    """Those that were measured by the same method on a base of about the size."""
    return [
        each for each in past if each.method == method and parameters / ALIKE <= each.parameters <= parameters * ALIKE
    ]


class Choice(NamedTuple):
    """An engine, and why it is this one."""

    engine: Engine
    reason: str
    processes: int = 1


def choose_engine(
    asked: Literal["ours", "trl", "auto"],
    *,
    method: str,
    parameters: int,
    on_gpu: bool,
    gpus: int = 1,
    past: Iterable[Speed] = (),
) -> Choice:
    """The engine for a run.

    Args:
        asked: by the recipe.
        parameters: of the base.
        on_gpu: where it is trained.
        gpus: over how many it can be spread.
        past: what tasks of its type were trained at on this machine.
    """
    processes = gpus if on_gpu else 1
    if asked != "auto":
        return Choice(asked, "the recipe says so", processes if asked == "trl" else 1)
    if processes > 1:
        return Choice("trl", f"only TRL's trainers are spread over {gpus} GPUs", processes)
    if not on_gpu:
        return Choice("ours", "on a CPU it is the faster one (docs/benchmarks/training.md)")
    speeds: dict[Engine, list[float]] = {"ours": [], "trl": []}
    for each in alike(past, method=method, parameters=parameters):
        speeds[each.engine].append(each.tokens_per_second)
    if not (speeds["ours"] and speeds["trl"]):
        unknown = " nor ".join(engine for engine in ("ours", "trl") if not speeds[engine])
        return Choice("ours", f"nothing was measured here of {unknown} on a base of its size")
    ours, trl = (statistics.median(speeds[engine]) for engine in ("ours", "trl"))
    measured = f"{ours:,.0f} tokens a second by ours, {trl:,.0f} by TRL, on bases of its size"
    return Choice("trl" if trl > FASTER * ours else "ours", measured)
