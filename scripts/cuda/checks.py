"""What must hold on a GPU box: each check runs in a process of its own and answers with figures and what did not hold.

The same checks run on a CPU with tiny shapes (`--rehearse`), so that a mistake in them shows before a GPU is paid for.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from gradients.config import device_environment
from gradients.domain.json import JsonObject
from gradients.errors import JobFailed
from gradients.execution.job import Job
from gradients.execution.process import ProcessExecutor
from gradients.ml.device import choose_device
from gradients.tasks.jobs import Entrant, EntrantResult, MeasureJob, TrainingPlan, TrainJob
from gradients.testing.tiny_models import Shape
from scripts.cuda.models import HALF_B, SEVEN_B, TINY, write_random_adapter, write_random_llama

ROOT = Path(__file__).parents[2]
GIB = 2**30
ENTRANTS = 4


@dataclass(frozen=True, slots=True)
class Scale:
    """How large everything is: as on the box, or for a rehearsal on a CPU."""

    rehearsal: bool
    half_b: Shape
    seven_b: Shape
    rows: int
    row_words: int
    train_seconds: float
    market_hours: float

    @property
    def device(self) -> str:
        """As torch names it."""
        return "cpu" if self.rehearsal else "cuda"


FULL = Scale(
    rehearsal=False, half_b=HALF_B, seven_b=SEVEN_B, rows=64, row_words=90, train_seconds=70.0, market_hours=0.012
)
REHEARSAL = Scale(
    rehearsal=True, half_b=TINY, seven_b=TINY, rows=24, row_words=8, train_seconds=6.0, market_hours=0.006
)


@dataclass
class Findings:
    """What a check found out."""

    figures: dict[str, float | str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)  # what should hold and does not

    def must(self, holds: bool, what: str) -> None:
        """Note it when it does not hold."""
        if not holds:
            self.broken.append(what)


def device(scale: Scale, folder: Path) -> Findings:
    """What torch sees, and the precision that is probed."""
    found = Findings()
    chosen = choose_device()
    found.figures |= {key: str(value) for key, value in chosen.describe().items()}
    found.must(chosen.name == scale.device, f"the device should be {scale.device}, not {chosen.name}")
    if not scale.rehearsal:
        found.must(
            chosen.autocast_dtype is torch.bfloat16, "bfloat16 should be faster than float32 by a third at least"
        )
        free, total = torch.cuda.mem_get_info()
        found.figures |= {"memory GiB": round(total / GIB, 1), "free GiB": round(free / GIB, 1)}
    return found


def tests(scale: Scale, folder: Path) -> Findings:
    """The tests marked gpu; in a rehearsal they skip themselves."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "-rs", str(ROOT / "tests/gpu")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    last = (run.stdout.strip().splitlines() or ["no output"])[-1]
    found = Findings({"pytest": last})
    found.must(
        run.returncode == 0, f"tests marked gpu end with {run.returncode}: {run.stdout[-1500:]}{run.stderr[-500:]}"
    )
    found.must(scale.rehearsal or "passed" in last, "no test marked gpu has run")
    return found


def market(scale: Scale, folder: Path) -> Findings:
    """`localnet` end to end with the shipped nano-lm."""
    return _market(scale, folder)


def market_half_b(scale: Scale, folder: Path) -> Findings:
    """`localnet` end to end with a random model of half a billion weights."""
    base = folder / "half-b"
    parameters = write_random_llama(base, scale.half_b, device=scale.device)
    found = _market(scale, folder, "--base", str(base))
    return Findings({"weights": parameters, **found.figures}, found.broken)


def _market(scale: Scale, folder: Path, *flags: str) -> Findings:
    found = Findings()
    watch = _MemoryWatch() if not scale.rehearsal else None
    arguments = [
        "localnet",
        "--json",
        "--seed",
        "7",
        "--miners",
        "2",
        "--hours",
        str(scale.market_hours),
        "--keep",
        str(folder / "net"),
    ]
    started = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-m", "gradients.cli", *arguments, *flags],
        cwd=ROOT,
        env=os.environ | {"HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    found.figures["seconds"] = round(time.monotonic() - started, 1)
    found.must(run.returncode == 0, f"localnet ends with {run.returncode}: {run.stderr[-1500:]}")
    if watch is not None:
        peak = watch.stop()
        found.figures["peak GPU GiB"] = round(peak / GIB, 2)
        found.must(peak > 0.2 * GIB, "no worker held GPU memory: training and measuring ran elsewhere")
    if run.returncode == 0:
        for task in json.loads(run.stdout.splitlines()[-1])["tasks"]:
            best = min(miner["loss"] for miner in task["miners"] if miner["loss"] is not None)
            found.figures |= {"base loss": round(task["base_loss"], 4), "best loss": round(best, 4)}
            found.must(task["state"] == "scored", f"the task of type {task['type']} is {task['state']}")
            found.must(best < task["base_loss"], "no miner beats the base")
    return found


class _MemoryWatch:
    """The most GPU memory that others took while it watched."""

    def __init__(self) -> None:
        torch.zeros(1, device="cuda")
        self._free = torch.cuda.mem_get_info()[0]
        self._lowest, self._stopped = self._free, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Bytes."""
        self._stopped.set()
        self._thread.join()
        return int(self._free - self._lowest)

    def _watch(self) -> None:
        while not self._stopped.wait(0.2):
            self._lowest = min(self._lowest, torch.cuda.mem_get_info()[0])


def measuring(scale: Scale, folder: Path) -> Findings:
    """One measuring job on a 7B-shaped base: the base and four adapters on the same rows."""
    from gradients.tasks.instruct.metric import measure

    base = _seven_b(scale, folder)
    adapters = [
        write_random_adapter(base, folder / f"adapter-{number}", rank=16, seed=number) for number in range(ENTRANTS)
    ]
    entrants = [
        Entrant(id="base"),
        *(Entrant(id=path.name, folder=path) for path in adapters),
        Entrant(id="base-again"),
    ]
    rows = _write_rows(folder / "rows.jsonl", scale)
    job = MeasureJob(
        base_folder=base,
        held_out_file=rows,
        parameters={"max_tokens": 1024},
        entrants=tuple(entrants),
        results_folder=folder / "results",
        seed=0,
        sketch_key="check",
    )
    done: list[tuple[str, float]] = []
    started = time.monotonic()
    measure(job.model_dump(mode="json"), lambda said: done.append((str(said.get("entrant")), time.monotonic())))
    seconds = time.monotonic() - started
    results = {
        entrant.id: EntrantResult.model_validate_json((folder / "results" / f"{entrant.id}.json").read_bytes())
        for entrant in entrants
    }
    found = Findings({"seconds, loading included": round(seconds, 1), "peak GPU GiB": _peak_gib(scale)})
    failed = "; ".join(f"{name}: {each.failure_message}" for name, each in results.items() if each.value is None)
    found.must(not failed, f"not measured: {failed}"[:1500])
    found.must(
        results["base"].per_row == results["base-again"].per_row,
        "the base is not bit-equal before and after the adapters",
    )
    prints = [results[path.name].fingerprint for path in adapters]
    found.must(all(one and one.update and one.outputs for one in prints), "an adapter has no whole fingerprint")
    found.must(len({result.value for result in results.values()}) == ENTRANTS + 1, "adapters do not change the loss")
    if all(result.value is not None for result in results.values()):
        each = sum(results[path.name].seconds for path in adapters) / ENTRANTS
        found.figures |= {"s an adapter": round(each, 2), "rows/s": round(scale.rows / each, 1)}
        found.figures["tokens/s"] = round(scale.rows * _tokens_a_row(base, rows) / each)
        found.must(math.isfinite(results["base"].value or math.nan), "the loss is not finite")
    return found


def lora(scale: Scale, folder: Path) -> Findings:
    """One LoRA run on a 7B-shaped base, with memory and speed."""
    from gradients.tasks.instruct.trainer import train

    base = _seven_b(scale, folder)
    job = _train_job(scale, folder, base, method="lora", batch_rows=8)
    seen: list[tuple[float, int]] = []

    def report(said: JsonObject) -> None:
        if said.get("phase") == "training" and isinstance(step := said.get("step"), int):
            seen.append((time.monotonic(), step))

    result = train(job.model_dump(mode="json"), report)
    found = Findings({"steps": float(str(result["steps"])), "peak GPU GiB": _peak_gib(scale)})
    found.must(len(seen) > 1 and seen[-1][1] > seen[0][1], "no step was reported")
    if len(seen) > 1 and seen[-1][0] > seen[0][0]:
        steps = (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])
        found.figures["tokens/s"] = round(steps * job.plan.batch_rows * _tokens_a_row(base, job.train_file))
    found.figures["loss"] = round(float(str(result["train_loss"])), 3)
    found.must((job.output_folder / "adapter_model.safetensors").is_file(), "no adapter was written")
    found.must(time.time() < job.deadline_unix + 5, "the deadline was overrun")
    return found


def out_of_memory(scale: Scale, folder: Path) -> Findings:
    """A full fine-tune that cannot fit ends as JobFailed (out_of_memory), and leaves the GPU free."""
    arguments: JsonObject
    if scale.rehearsal:
        function, arguments = "gradients.testing.worker_functions:use_up_memory", {}
    else:
        job = _train_job(scale, folder, _seven_b(scale, folder), method="full", batch_rows=64)
        function, arguments = "gradients.tasks.instruct.trainer:train", job.model_dump(mode="json")
    before = 0 if scale.rehearsal else torch.cuda.mem_get_info()[0]
    found = Findings()
    executor = ProcessExecutor(environment=device_environment())
    started = time.monotonic()
    try:
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


# In this order: what tells most comes first, should the time run out.
CHECKS: Mapping[str, Callable[[Scale, Path], Findings]] = {
    "device": device,
    "tests": tests,
    "market": market,
    "lora": lora,
    "measuring": measuring,
    "out_of_memory": out_of_memory,
    "market_half_b": market_half_b,
}


def _seven_b(scale: Scale, folder: Path) -> Path:
    """The 7B-shaped base, written once for all checks of a run."""
    base = folder.parent / "seven-b"
    if not base.is_dir():
        part = folder.parent / "seven-b.part"
        write_random_llama(part, scale.seven_b, device=scale.device)
        part.rename(base)
    return base


def _train_job(scale: Scale, folder: Path, base: Path, *, method: str, batch_rows: int) -> TrainJob:
    plan = {"recipe": "gpu", "method": method, "learning_rate": 1e-4, "batch_rows": batch_rows, "max_tokens": 1024}
    return TrainJob(
        base_folder=base,
        train_file=_write_rows(folder / "train.jsonl", scale),
        parameters={"max_tokens": 1024},
        plan=TrainingPlan.model_validate(plan | {"max_epochs": 1000.0, "lora_rank": 32, "lora_alpha": 64.0}),
        seed=0,
        deadline_unix=time.time() + scale.train_seconds,
        checkpoint_folder=folder / "checkpoint",
        output_folder=folder / "output",
    )


def _write_rows(file: Path, scale: Scale) -> Path:
    """Rows of random words in the normal form of instruct tasks."""
    words, rng = ("harbour", "anvil", "meadow", "lantern", "quarry", "saddle", "turret", "willow"), random.Random(0)
    rows = [
        {
            "prompt": f"Say number {number}.",
            "completion": " ".join(rng.choices(words, k=rng.randint(scale.row_words // 2, scale.row_words))),
        }
        for number in range(scale.rows)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def _tokens_a_row(base: Path, file: Path) -> float:
    from transformers import AutoTokenizer

    rows = [json.loads(line) for line in file.read_text().splitlines()]
    texts = [f"{row['prompt']}{row['completion']}" for row in rows]
    encoded = AutoTokenizer.from_pretrained(base, local_files_only=True)(texts)["input_ids"]
    return sum(len(tokens) for tokens in encoded) / len(encoded)


def _peak_gib(scale: Scale) -> float:
    return 0.0 if scale.rehearsal else round(torch.cuda.max_memory_allocated() / GIB, 1)
