"""One run: a base, a task, an arm and a seed to the losses of its held-out rows. Runs in a process of its own, one after another."""

from __future__ import annotations

import ctypes
import json
import math
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from gradients.bases.bases import SHIPPED
from gradients.domain.json import JsonObject
from scripts.benchmarks.recipes.arms import ARMS, PASSES, PICTURES, Diffusers, Ours, Trl, Where, budget
from scripts.benchmarks.recipes.meter import PICTURE, READ, TRAINED, Meter, seconds_of
from scripts.benchmarks.recipes.rows import Parts, Picture, Preference, Row
from scripts.benchmarks.recipes.tasks import TASKS

Clock = Literal["tokens", "wall"]
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_METERS: list[Meter] = []  # this process's own, once `begin` was called


class Run(BaseModel):
    """What is asked for."""

    model_config = ConfigDict(frozen=True)

    base: Path | None = Field(description="None is the shipped one")
    task: str
    arm: str
    seed: int
    data: str = Field(description="digest of the task's rows")
    clock: Clock
    seconds: float = Field(description="of a unit of budget, where the clock is the wall's")

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from other runs."""
        seconds = f"{self.seconds:g}" if self.clock == "wall" else ""
        return (self.base_name, self.task, self.arm, str(self.seed), self.data, self.clock, seconds)

    @property
    def base_name(self) -> str:
        """As tables say it."""
        return self.base.name if self.base else TASKS[self.task].base


class Done(BaseModel):
    """What came of it; one line of the file of runs."""

    model_config = ConfigDict(frozen=True)

    run: Run
    selection: tuple[float, ...] = ()
    test: tuple[float, ...] = ()
    failure: str = ""
    told: dict[str, JsonValue] = Field(default={}, description="a trainer's plan and result, of our arms")
    trained_tokens: int = 0
    units: int = Field(default=0, description="tokens, or pictures as tokens, a trained one three times a read one")
    unit_budget: int = Field(default=0, description="the same, of one unit of budget")
    seconds: float = Field(default=0.0, description="of training, by the wall's clock")


def begin(clock: Clock, threads: int) -> None:
    """Make this process ready for runs; to be called before anything else is imported by it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a bench that is killed leaves nobody behind
    meter = Meter()
    _METERS.append(meter)
    if clock == "tokens":
        meter.be_the_clock()
    warnings.simplefilter("ignore", FutureWarning)  # of transformers' own calls and TRL's
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(threads)
    if clock == "wall":  # importing takes seconds that belong to nobody's budget
        from gradients.execution.functions import resolve
        from gradients.tasks.registry import task_type
        from scripts.benchmarks.recipes import diffusers_training, trl_training  # noqa: F401

        for kind in {task.kind for task in TASKS.values()}:
            resolve(task_type(kind).train)
    meter.watch()


def do(run: Run, parts: Parts) -> Done:
    """Train and judge; a failure is a result too."""
    with tempfile.TemporaryDirectory(prefix="gradients-recipes-") as folder:
        try:
            return _done(run, parts, Path(folder))
        except Exception:  # whatever it is, it is this run's result, and the others go on
            return Done(run=run, failure=traceback.format_exc(limit=-3))


def _done(run: Run, parts: Parts, folder: Path) -> Done:
    meter, task = _METERS[-1], TASKS[run.task]
    meter.of_pictures = task.of_pictures
    base, how = run.base or SHIPPED / task.base, ARMS[run.arm].way(of_pictures=task.of_pictures)
    units = TRAINED * PICTURE * PICTURES if task.of_pictures else PASSES * _units(base, parts.train)
    started, units_before, tokens_before = time.perf_counter(), meter.units, meter.trained_tokens
    deadline = time.time() + budget(how) * (seconds_of(units) if run.clock == "tokens" else run.seconds)
    repo = folder / "repo"
    told: JsonObject = {}
    if isinstance(how, Ours):
        told = train(how, run, parts.train, base, folder, deadline=deadline)
    elif how is not None:
        _baseline(how, parts.train, base, repo, seed=run.seed, deadline=deadline if run.clock == "wall" else None)
    seconds, units_after, tokens_after = time.perf_counter() - started, meter.units, meter.trained_tokens
    losses = _losses(base, repo if how else None, [*parts.selection, *parts.test])
    if not all(math.isfinite(loss) for loss in losses):
        return Done(run=run, failure="A held-out row's loss is not finite")
    rounded = tuple(float(f"{loss:.6g}") for loss in losses)
    return Done(
        run=run,
        told=cast(dict[str, JsonValue], told),
        selection=rounded[: len(parts.selection)],
        test=rounded[len(parts.selection) :],
        trained_tokens=tokens_after - tokens_before,
        units=units_after - units_before,
        unit_budget=units,
        seconds=round(seconds, 2),
    )


def train(how: Ours, run: Run, rows: Sequence[Row], base: Path, folder: Path, *, deadline: float) -> JsonObject:
    """Run the task type's own trainer on what a miner's attempt gives it: a job with its plan and its deadline.

    The plan and what the trainer says at the end.
    """
    from safetensors import safe_open

    from gradients.execution.functions import resolve
    from gradients.tasks.jobs.training import TrainJob
    from gradients.tasks.registry import task_type

    count = 0
    for file in sorted(base.rglob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    train_file = folder / "train.jsonl"
    train_file.write_text("".join(json.dumps(row.as_row()) + "\n" for row in rows), encoding="utf-8")
    kind = TASKS[run.task].kind
    job = TrainJob(
        base_folder=base,
        train_file=train_file,
        parameters={},
        plan=how.plan(Where(kind, base, count, run.seed)),
        seed=run.seed,
        deadline_unix=deadline,
        checkpoint_folder=folder / "checkpoint",
        output_folder=folder / "repo",
    )
    result = resolve(task_type(kind).train)(job.model_dump(mode="json"), _ignore)
    return {"plan": job.plan.model_dump(mode="json", exclude_defaults=True), "result": result}


def _baseline(
    how: Trl | Diffusers, rows: Sequence[Row], base: Path, repo: Path, *, seed: int, deadline: float | None
) -> None:
    if isinstance(how, Trl):
        from scripts.benchmarks.recipes import trl_training

        trl_training.train(how, rows, base, repo, seed=seed, deadline=deadline)
    else:
        from scripts.benchmarks.recipes import diffusers_training

        pictures = [row for row in rows if isinstance(row, Picture)]
        diffusers_training.train(how, pictures, base, repo, seed=seed, deadline=deadline)


def _losses(base: Path, repo: Path | None, rows: Sequence[Row]) -> list[float]:
    """The rows' by the judge of their kind, of what was handed in, or of the base."""
    if pictures := [row for row in rows if isinstance(row, Picture)]:
        from scripts.benchmarks.recipes import picture_judge

        return picture_judge.losses(picture_judge.load(base, repo), pictures)
    from transformers import AutoTokenizer

    from scripts.benchmarks.recipes import evaluator

    model, tokenizer = evaluator.load(base, repo), AutoTokenizer.from_pretrained(base)
    answers = [evaluator.encode(tokenizer, row.prompt, row.completion) for row in rows]
    worse = [evaluator.encode(tokenizer, row.prompt, row.rejected) for row in rows if isinstance(row, Preference)]
    if worse:
        return evaluator.preference_losses(model, evaluator.load(base), answers, worse)
    return evaluator.completion_losses(model, answers)


def _units(base: Path, rows: Sequence[Row]) -> int:
    """What one pass over texts takes without padding; a preference is read by the base too."""
    from transformers import AutoTokenizer

    from scripts.benchmarks.recipes import evaluator

    tokenizer, units = AutoTokenizer.from_pretrained(base), 0
    for row in rows:
        tokens = len(evaluator.encode(tokenizer, row.prompt, row.completion).tokens)
        if isinstance(row, Preference):
            tokens += len(evaluator.encode(tokenizer, row.prompt, row.rejected).tokens)
        units += tokens * (TRAINED + READ if isinstance(row, Preference) else TRAINED)
    return units


def _ignore(_: JsonObject) -> None:
    """Progress that nobody watches."""
