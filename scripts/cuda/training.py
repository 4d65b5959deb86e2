"""The checks that train: in worker processes, by plans that are made to fill four fifths of the memory and have to be kept."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from gradients.config import device_environment
from gradients.domain.json import JsonObject
from gradients.errors import JobFailed
from gradients.execution.job import Job
from gradients.execution.process import ProcessExecutor
from gradients.tasks.base import TrainingLoad
from gradients.tasks.footprint import Way, shape_in
from gradients.tasks.jobs.training import TrainingPlan, TrainJob, TrainResult
from miner.fit import Fit, fit
from miner.memory import Memory, installed_memory
from scripts.benchmarks.training_steps import (
    BACKWARD_TO_STATES,
    BACKWARD_TO_WEIGHTS,
    FORWARD,
    operations_a_second,
)
from scripts.cuda.ground import GIB, Findings, MemoryWatch, Scale, random_base, write_rows

TRAIN = "gradients.tasks.instruct.trainer:train"
SHARE = 0.8  # of the memory that a plan is made for
KEPT_WITHIN = 1.15  # times what was planned; the driver's own memory comes on top
DRIVER_BYTES = 1 * GIB
RANK, BATCH_ROWS, ROWS, PASSES = 32, 8, 48, 2.0
LOADING_SECONDS = 60.0  # that a job may take beyond its training's deadline
OVERRUN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Run:
    """One training, and what it is called in the report."""

    name: str
    way: Way
    engine: Literal["ours", "trl"] = "ours"
    stretched: int = (
        1  # times the tokens that are planned for a micro-batch: the run has to find out that they don't fit
    )


class Planned(NamedTuple):
    """A job, and what it is expected to take."""

    job: TrainJob
    fit: Fit


class Trained(NamedTuple):
    """What came of a run."""

    result: TrainResult
    peak_bytes: int  # of the GPU; 0 in a rehearsal

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return self.result.tokens_per_second or math.nan


def lora(scale: Scale, folder: Path) -> Findings:
    """A LoRA on a 7B-shaped base by both engines."""
    base, found, way = random_base("seven-b", scale.seven_b, scale, folder), Findings(), Way("lora", RANK)
    ours = train_once(Run("ours", way), base, scale, folder, found)
    trl = train_once(Run("TRL", way, engine="trl"), base, scale, folder, found)
    if ours and trl:
        found.figures["ours over TRL"] = round(ours.speed / trl.speed, 2)
    if ours and not scale.rehearsal:
        found.figures["share of the products' ceiling"] = round(share_of_ceiling(way, base, ours.speed), 3)
    return found


def short_of_memory(scale: Scale, folder: Path) -> Findings:
    """A LoRA on a 7B-shaped base in 4 bits, and one that finds out by itself that its micro-batch is far too large."""
    base, found = random_base("seven-b", scale.seven_b, scale, folder), Findings()
    train_once(Run("4 bits", Way("lora", RANK, load_in_4bit=True)), base, scale, folder, found)
    train_once(Run("micro-batch 16 times too large", Way("lora", RANK), stretched=16), base, scale, folder, found)
    return found


def full(scale: Scale, folder: Path) -> Findings:
    """All weights of a 1.5B-shaped base."""
    found = Findings()
    base = random_base("one-and-a-half-b", scale.one_and_a_half_b, scale, folder)
    train_once(Run("all weights", Way("full", RANK)), base, scale, folder, found)
    return found


def resumed(scale: Scale, folder: Path) -> Findings:
    """A worker is killed with -9 once its checkpoint is there, and another one goes on from it."""
    found, run = Findings(), Run("resumed", Way("lora", RANK))
    planned = _plan(run, random_base("half-b", scale.half_b, scale, folder), scale, folder, found)
    if planned is None:
        return found
    job = planned.job.model_copy(
        update={"plan": planned.job.plan.model_copy(update={"max_epochs": scale.resumed_passes})}
    )
    first, again, saved = list[int](), list[int](), set[int]()

    def kill(said: JsonObject) -> None:
        first.extend(_step(said))
        saved.update(file.stat().st_mtime_ns for file in job.checkpoint_folder.glob("*.safetensors"))
        if first and len(saved) > 1:  # the first one was left before any step
            _kill_children()

    try:
        _run(job, folder / "first", kill)
        found.broken.append("it was over before it could be killed")
    except JobFailed as error:
        found.figures["killed at step"] = float(first[-1]) if first else 0.0
        found.must(bool(first), f"it ended before any step: {error}"[:1500])
    result = _run(job, folder / "again", lambda said: again.extend(_step(said)))
    found.figures |= {"went on from step": float(again[0]) if again else 0.0, "steps": float(result.steps)}
    found.must(bool(again) and again[0] > 1, "it began anew instead of going on")
    return found


def out_of_memory(scale: Scale, folder: Path) -> Findings:
    """A full fine-tune that cannot fit ends as JobFailed (out_of_memory), and leaves the GPU free."""
    before, found = 0 if scale.rehearsal else torch.cuda.mem_get_info()[0], Findings()
    arguments: JsonObject = {}
    if not scale.rehearsal:
        base = random_base("seven-b", scale.seven_b, scale, folder)
        arguments = _job(_training_plan(Way("full", RANK), scale), base, scale, folder).model_dump(mode="json")
    function = TRAIN if arguments else "gradients.testing.worker_functions:use_up_memory"
    started = time.monotonic()
    try:
        executor = ProcessExecutor(environment=device_environment())
        asyncio.run(executor.run(Job(function, arguments, folder / "job", deadline_seconds=90), report=lambda _: None))
        found.broken.append("it fitted")
    except JobFailed as error:
        found.figures["code"] = error.code
        found.must(error.code == "out_of_memory", f"it ended as {error.code}: {error}"[:1500])
    found.figures["seconds"] = round(time.monotonic() - started, 1)
    if not scale.rehearsal:
        left = before - torch.cuda.mem_get_info()[0]
        found.must(left < 0.5 * GIB, f"{left / GIB:.1f} GiB of the GPU are still held")
    return found


def train_once(run: Run, base: Path, scale: Scale, folder: Path, found: Findings) -> Trained | None:
    """What came of the run, with what it took beside what was planned; None where it cannot be made, which is noted."""
    planned = _plan(run, base, scale, folder / run.name, found)
    if planned is None:
        return None
    watch = None if scale.rehearsal else MemoryWatch()
    try:
        result = _run(planned.job, folder / run.name / "job", lambda _: None)
    except JobFailed as error:
        found.broken.append(f"{run.name} ended as {error.code}: {error}"[:1500])
        return None
    finally:
        peak = watch.stop() if watch else 0
    micro, expected = planned.job.plan.micro_batch_tokens or 0, planned.fit.needed(scale.train_tokens)
    found.figures |= {
        f"{run.name}: tokens/s": round(result.tokens_per_second or 0.0),
        f"{run.name}: micro-batch": f"{micro} tokens",
        f"{run.name}: GiB planned, taken": f"{expected / GIB:.1f}, {peak / GIB:.1f}",
        f"{run.name}: loss": round(result.train_loss, 3),
    }
    kept = peak <= KEPT_WITHIN * expected + DRIVER_BYTES
    found.must(
        kept or run.stretched > 1, f"{run.name} took {peak / GIB:.1f} GiB where {expected / GIB:.1f} were planned"
    )
    found.must(any(planned.job.output_folder.glob("*.safetensors")), f"{run.name} left no model")
    found.must(time.time() < planned.job.deadline_unix + OVERRUN_SECONDS, f"{run.name} overran its deadline")
    return Trained(result, peak)


def share_of_ceiling(way: Way, base: Path, tokens_per_second: float) -> float:
    """Of the GPU's products in bfloat16: what the layers' weights make of so many tokens, 0..1. Attention and head are left out.

    Forward, backward to the states, and backward to those weights that train: two operations a weight and token each.
    """
    operations = FORWARD + BACKWARD_TO_STATES + (BACKWARD_TO_WEIGHTS if way.method == "full" else 0)
    shape = shape_in(base, _parameters(base))
    layers = (
        shape.parameters - shape.vocabulary * shape.hidden
    )  # what random bases embed tokens with is their head, too
    return operations * layers * tokens_per_second / operations_a_second("cuda")


def _plan(run: Run, base: Path, scale: Scale, folder: Path, found: Findings) -> Planned | None:
    folder.mkdir(parents=True, exist_ok=True)
    memory = installed_memory(os.environ.get("CUDA_VISIBLE_DEVICES"))
    if run.way.load_in_4bit and not memory.low_bits:
        found.figures[run.name] = "bitsandbytes is not installed"
        return None
    memory = _less(memory)
    fitted = fit(shape_in(base, _parameters(base)), memory, asked=run.way, load=TrainingLoad(scale.train_tokens))
    found.must(fitted.fits, f"{run.name} does not fit: {'; '.join(fitted.reasons)}")
    if not fitted.fits:
        return None
    plan = _training_plan(fitted.way, scale)
    plan = plan.model_copy(update={"engine": run.engine, "micro_batch_tokens": run.stretched * fitted.tokens})
    return Planned(_job(plan, base, scale, folder), fitted)


def _less(memory: Memory) -> Memory:
    return replace(memory, bytes=int(SHARE * memory.bytes))


def _training_plan(way: Way, scale: Scale) -> TrainingPlan:
    """One whole run of 12 steps, on rows of one length."""
    return TrainingPlan(
        recipe="gpu",
        method=way.method,
        learning_rate=1e-4,
        batch_rows=BATCH_ROWS,
        max_tokens=scale.train_tokens,
        max_epochs=PASSES,
        validation_fraction=0.0,
        lora_rank=RANK,
        lora_alpha=2.0 * RANK,
        gradient_checkpointing=way.checkpointing,
        load_in_4bit=way.load_in_4bit,
        optimiser=way.optimiser,
    )


def _job(plan: TrainingPlan, base: Path, scale: Scale, folder: Path) -> TrainJob:
    return TrainJob(
        base_folder=base,
        train_file=write_rows(folder / "train.jsonl", rows=ROWS, words=2 * scale.train_tokens),
        parameters={"max_tokens": scale.train_tokens},
        plan=plan,
        seed=0,
        deadline_unix=time.time() + scale.train_seconds,
        checkpoint_folder=folder / "checkpoint",
        output_folder=folder / "output",
    )


def _run(job: TrainJob, folder: Path, report: Callable[[JsonObject], None]) -> TrainResult:
    """Raises JobFailed."""
    left = job.deadline_unix - time.time() + LOADING_SECONDS
    work = Job(TRAIN, job.model_dump(mode="json"), folder, deadline_seconds=left)
    executor = ProcessExecutor(environment=device_environment())
    return TrainResult.model_validate(asyncio.run(executor.run(work, report=report)))


def _step(said: JsonObject) -> list[int]:
    step = said.get("step")
    return [step] if said.get("phase") == "training" and isinstance(step, int) and step else []


def _kill_children() -> None:
    for thread in Path("/proc/self/task").iterdir():
        for child in (thread / "children").read_text().split():
            os.kill(int(child), signal.SIGKILL)


def _parameters(base: Path) -> int:
    index = json.loads((base / "model.safetensors.index.json").read_text())
    return int(index["metadata"]["total_size"]) // 2  # bfloat16
