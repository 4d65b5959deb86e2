"""Runs under the hours that tasks really give, for bases of every size, on a clock that moves by modelled speeds.

A weight stands in for the base; what is real is the loop, the plan's defaults, the rule of hours and the ratios of epochs, validations,
savings and time. Rows are taken together, so that a run has few hundred steps.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import nn

from gradients.ml.checkpoint import CheckpointFile, Snapshot
from gradients.ml.telling import Outcome
from gradients.ml.training import TrainingRun, TrainingSettings
from gradients.tasks.hours import ASSUMED_TOKENS_PER_ROW, Effort, Workload, budget, speed_of
from gradients.tasks.jobs.training import TrainingPlan
from scripts.benchmarks.timing import Figure, figure

BASES = {"0.1B": 1e8, "0.5B": 5e8, "1.1B": 1.1e9, "7.6B": 7.6e9, "13B": 1.3e10, "70B": 7e10}
TOGETHER = 20  # rows that stand as one
VALIDATION_WORK = 1 / 3  # of training on a row: no backward pass
SAVING_SECONDS_PER_WEIGHT = 1e-10  # a LoRA of one weight in a hundred with its moments, at a gigabyte a second


class Clock:
    """Moves when somebody works."""

    def __init__(self) -> None:
        self.time = 1e9

    def now(self) -> float:
        """Seconds since the Unix epoch, modelled."""
        return self.time


class Modelled:
    """An objective whose every row takes as long as on the base; its loss is the weight's distance from a valley."""

    def __init__(self, clock: Clock, *, rows: int, seconds_per_row: float, validation_fraction: float = 0.03) -> None:
        kept = min(256 / TOGETHER, rows * validation_fraction)
        self.lengths: Sequence[int] = [1] * round(rows - kept)
        self.clock = clock
        self.seconds_per_row = seconds_per_row
        self.validation_seconds = kept * seconds_per_row * VALIDATION_WORK
        self.loss_of: Callable[[float], float] = lambda weight: abs(weight)
        self.seen = 0
        self.validated: list[float] = []  # losses, the base's first

    def backward(self, model: nn.Module, rows: Sequence[int]) -> float:
        """See Objective."""
        [weight] = model.parameters()
        weight.sum().backward()
        self.clock.time += len(rows) * self.seconds_per_row
        self.seen += len(rows)
        return self.loss_of(weight.item())

    def validate(self, model: nn.Module) -> float | None:
        """See Objective."""
        [weight] = model.parameters()
        self.clock.time += self.validation_seconds
        self.validated.append(self.loss_of(weight.item()))
        return self.validated[-1]


class ModelledFile(CheckpointFile):
    """Saving takes as long as for the base, and keeps nothing."""

    clock: Clock
    seconds: float

    def save(self, snapshot: Snapshot) -> None:
        """Let the time pass."""
        self.clock.time += self.seconds


class Case(NamedTuple):
    """One run, and how many rows would have fitted into its time and its epochs."""

    outcome: Outcome
    objective: Modelled
    model: nn.Module
    useful_rows: float
    seconds: float  # of the whole budget
    seconds_left: float


def run(
    folder: Path,
    *,
    parameters: float,
    rows: int,
    gpus: int | None = None,
    change: Callable[[Modelled], None] = lambda _: None,
    **plan: object,
) -> Case:
    """Train a base of so many weights with the hours of a task of so many rows, on the rule's GPUs or on fewer."""
    work = Workload(Effort(), rows=rows, parameters=int(parameters))
    hours = budget(work)
    speed = speed_of(work, reference="h100") * (gpus or hours.gpus)  # tokens a second
    clock = Clock()
    objective = Modelled(clock, rows=rows // TOGETHER, seconds_per_row=TOGETHER * ASSUMED_TOKENS_PER_ROW / speed)
    change(objective)
    checkpoints = ModelledFile(folder, "digest")
    object.__setattr__(checkpoints, "clock", clock)
    object.__setattr__(checkpoints, "seconds", parameters * SAVING_SECONDS_PER_WEIGHT)
    settings = TrainingPlan.model_validate(
        {"recipe": "test", "method": "lora", "batch_rows": 1, "learning_rate": 0.01} | plan
    )
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    deadline = clock.time + 3600 * hours.hours
    outcome = TrainingRun(
        model,
        objective,
        TrainingSettings(**settings.model_dump(exclude={"recipe", "options"})),
        seed=1,
        deadline=deadline,
        checkpoints=checkpoints,
        report=lambda _: None,
        now=clock.now,
    ).run()
    # 2 % to spare, a last validation and a last saving are nobody's to train in
    trainable = 0.98 * 3600 * hours.hours - 1.5 * objective.validation_seconds - 3 * checkpoints.seconds
    useful = min(trainable / objective.seconds_per_row, settings.max_epochs * len(objective.lengths))
    return Case(outcome, objective, model, useful, 3600 * hours.hours, deadline - clock.time)


def slow_to_learn(objective: Modelled) -> None:
    """Let every further pass and every higher rate get nearer to the valley, which none reaches."""
    objective.loss_of = lambda weight: abs(weight + 1e4)


def budgets() -> Iterator[Figure]:
    """What becomes of the hours on one H100, with three rates tried first and further runs while time is left."""
    rates = (0.005, 0.01, 0.02)
    for base, parameters in BASES.items():
        for rows in (2_000, 10_000):
            with tempfile.TemporaryDirectory() as folder:
                case = run(
                    Path(folder),
                    parameters=parameters,
                    rows=rows,
                    gpus=1,
                    change=slow_to_learn,
                    probe_learning_rates=rates,
                    candidates=100,
                )
            what = f"{base}, {rows:,} rows, {case.seconds / 3600:.2f} h"
            yield figure(f"{what}: passes of the best whole run", "epochs", [case.outcome.epochs])
            yield figure(f"{what}: whole runs", "runs", [float(case.outcome.candidates)])
            yield figure(f"{what}: unused", "%", [100 * case.seconds_left / case.seconds])
