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
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from gradients.bases.bases import SHIPPED
from gradients.domain.json import JsonObject
from scripts.benchmarks.recipes.arms import ARMS, PASSES, Ours, Trl, Where
from scripts.benchmarks.recipes.meter import READ, TRAINED, Meter, seconds_of
from scripts.benchmarks.recipes.rows import Parts, Preference, Row
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
        return self.base.name if self.base else "nano-lm"


class Done(BaseModel):
    """What came of it; one line of the file of runs."""

    model_config = ConfigDict(frozen=True)

    run: Run
    selection: tuple[float, ...] = ()
    test: tuple[float, ...] = ()
    failure: str = ""
    told: dict[str, JsonValue] = Field(default={}, description="a trainer's plan and result, of our arms")
    trained_tokens: int = 0
    units: int = Field(default=0, description="tokens, a trained one three times a read one")
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
        from scripts.benchmarks.recipes import trl_training  # noqa: F401

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
    from transformers import AutoTokenizer

    from scripts.benchmarks.recipes import evaluator

    meter, base, arm = _METERS[-1], run.base or SHIPPED / "nano-lm", ARMS[run.arm]
    tokenizer = AutoTokenizer.from_pretrained(base)
    units = PASSES * sum(_units(tokenizer, row) for row in parts.train)
    started, units_before, tokens_before = time.perf_counter(), meter.units, meter.trained_tokens
    deadline = time.time() + arm.budget * (seconds_of(units) if run.clock == "tokens" else run.seconds)
    repo = folder / "repo"
    told: JsonObject = {}
    if isinstance(arm.how, Trl):
        from scripts.benchmarks.recipes import trl_training

        cut = deadline if run.clock == "wall" else None
        trl_training.train(arm.how, parts.train, base, repo, seed=run.seed, deadline=cut)
    elif isinstance(arm.how, Ours):
        told = train(arm.how, run, parts.train, base, folder, deadline=deadline)
    seconds, units_after, tokens_after = time.perf_counter() - started, meter.units, meter.trained_tokens
    model = evaluator.load(base, repo if arm.how else None)
    losses = _losses(model, base, tokenizer, [*parts.selection, *parts.test])
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
    from gradients.tasks.jobs import TrainJob
    from gradients.tasks.registry import task_type

    count = 0
    for file in sorted(base.glob("*.safetensors")):
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


def _losses(model: Any, base: Path, tokenizer: Any, rows: Sequence[Row]) -> list[float]:  # noqa: ANN401 (transformers')
    from scripts.benchmarks.recipes import evaluator

    answers = [evaluator.encode(tokenizer, row.prompt, row.completion) for row in rows]
    worse = [evaluator.encode(tokenizer, row.prompt, row.rejected) for row in rows if isinstance(row, Preference)]
    if worse:
        return evaluator.preference_losses(model, evaluator.load(base), answers, worse)
    return evaluator.completion_losses(model, answers)


def _units(tokenizer: Any, row: Row) -> int:  # noqa: ANN401
    """What one pass over a row takes without padding; a preference is read by the base too."""
    from scripts.benchmarks.recipes import evaluator

    tokens = len(evaluator.encode(tokenizer, row.prompt, row.completion).tokens)
    if not isinstance(row, Preference):
        return TRAINED * tokens
    return (TRAINED + READ) * (tokens + len(evaluator.encode(tokenizer, row.prompt, row.rejected).tokens))


def _ignore(_: JsonObject) -> None:
    """Progress that nobody watches."""
