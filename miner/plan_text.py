"""`gradients miner plan`: what a miner would do with a task on a machine, and why. For people and for scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gradients.domain.json import JsonObject
from gradients.errors import SetupError
from gradients.tasks.hours import OPERATIONS, PEAK_FLOPS, UTILISATION
from gradients.tasks.registry import TYPES
from miner.fit import name_of
from miner.fitting import Fitted
from miner.footprint import Shape
from miner.memory import GIB, Memory

GPUS = {
    "rtx4090": 24,
    "a10g": 24,
    "l4": 24,
    "l40s": 48,
    "a100": 80,
    "h100": 80,
    "h200": 141,
    "b200": 180,
}  # GiB, as sold
_SHOWN = (
    "method",
    "engine",
    "processes",
    "learning_rate",
    "probe_learning_rates",
    "lora_rank",
    "batch_rows",
    "max_tokens",
    "micro_batch_tokens",
    "gradient_checkpointing",
    "load_in_4bit",
    "optimiser",
    "max_epochs",
    "candidates",
)


class AskedTask(BaseModel):
    """What a plan depends on; a file that holds it may hold a whole task."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: str = next(iter(TYPES))
    base: str | None = Field(default=None, description="of this machine, or one to fetch")
    parameters: float | None = Field(default=None, gt=0, description="weights of the base, where none is named")
    rows: int = Field(default=10_000, gt=0)
    tokens_per_row: float = Field(default=400.0, gt=0)
    hours: float = Field(default=2.0, gt=0)


def read_task(file: Path | None, **given: object) -> AskedTask:
    """The task in a JSON file, and what was said beside it. Raises SetupError."""
    try:
        told = json.loads(file.read_text(encoding="utf-8")) if file else {}
        asked = {name: value for name, value in given.items() if value is not None}
        named = {**told, **asked}
        if isinstance(named.get("parameters"), dict):  # a task's own part, which is none of ours
            del named["parameters"]
        task = AskedTask.model_validate(named)
    except (OSError, ValueError, TypeError, ValidationError) as error:
        raise SetupError(
            f"The task is not usable: {error}", fix="Give JSON with type, base or parameters, rows and hours"
        ) from error
    if task.type not in TYPES:
        raise SetupError(f"There is no task type '{task.type}'", fix=f"Choose from {', '.join(TYPES)}")
    if task.base is None and task.parameters is None:
        raise SetupError("Neither a base nor its size is named", fix="Say --base NAME or --parameters 7e9")
    return task


def memory_of(gpu: str) -> Memory:
    """The memory of one of a kind of GPU, h100, h100:8 or 8x80, or of so many GiB. Raises SetupError."""
    name, _ = _named(gpu)
    try:
        gibibytes = float(GPUS[name]) if name in GPUS else float(name)
    except ValueError as error:
        raise SetupError(
            f"'{gpu}' is not a GPU that is known here", fix=f"Choose from {', '.join(GPUS)}, or say its GiB: --gpu 48"
        ) from error
    return Memory(int(gibibytes * GIB), is_gpu=True, gpus=gpus_in(gpu))


def as_json(task: AskedTask, shape: Shape, fitted: Fitted, memory: Memory, *, spread: Fitted | None) -> JsonObject:
    """Everything, for scripts; `spread` is what several GPUs would hold together."""
    plan, found = fitted.plan, fitted.fit
    return {
        "type": task.type,
        "parameters": shape.parameters,
        "fits": fitted.fits,
        "needed_bytes": fitted.needed_bytes,
        "usable_bytes": fitted.there_bytes,
        "on_gpu": memory.is_gpu,
        "reasons": list(found.reasons) if found else [],
        "spread": _spread(spread),
        "engine_reason": fitted.engine.reason,
        "epochs_in_time": _epochs(task, shape) if memory.is_gpu else None,
        "plan": {name: value for name, value in plan.model_dump(mode="json").items() if name in _SHOWN},
    }


def as_text(task: AskedTask, shape: Shape, fitted: Fitted, memory: Memory, *, spread: Fitted | None) -> Iterator[str]:
    """The same for people, a line each."""
    verdict = "fits" if fitted.fits else "does not fit: a task like it is declined"
    yield f"{task.type} on {shape.parameters / 1e9:.3g} billion weights {verdict}"
    yield f"  memory    {fitted.needed_bytes / GIB:.1f} GiB of {fitted.there_bytes / GIB:.1f} that can be used"
    for reason in fitted.fit.reasons if fitted.fit else ():
        yield f"            {reason}"
    if fitted.fits:
        told = fitted.plan.model_dump(mode="json")
        for name in _SHOWN:
            if not (name == "lora_rank" and told["method"] == "full"):
                why = f" ({fitted.engine.reason})" if name == "engine" else ""
                yield f"  {name:<23} {told[name]}{why}"
        if memory.is_gpu:
            yield f"  time      about {_epochs(task, shape):.1f} passes over {task.rows:,} rows in {task.hours:g} h, as an H100 does"
    if memory.gpus > 1:
        gpus = memory.gpus
        used = fitted.plan.processes
        yield f"  GPUs      {used} of {gpus} share the work" if used > 1 else f"  GPUs      one of {gpus} is used"
    if (held := _spread(spread)) is not None:
        needed = held["needed_bytes"] / GIB
        yield f"            in parts on all {held['gpus']} there would be room for {held['way']}: {needed:.1f} GiB on each"


def _spread(fitted: Fitted | None) -> dict[str, Any] | None:  # JSON
    """What a model that is spread would be trained by; None where spreading brings nothing better."""
    if fitted is None or fitted.fit is None or not fitted.fits or fitted.fit.way.devices == 1:
        return None
    way = fitted.fit.way
    return {"gpus": way.devices, "way": name_of(replace(way, devices=1)), "needed_bytes": fitted.needed_bytes}


def gpus_in(gpu: str | None) -> int:
    """How many GPUs are named: 8 in h100:8 and in 8x80."""
    return _named(gpu or "")[1]


def _named(gpu: str) -> tuple[str, int]:
    """The name or size of a GPU, and how many of it."""
    for form in (r"(?P<name>[\w.]+):(?P<count>\d+)", r"(?P<count>\d+)x(?P<name>[\w.]+)", r"(?P<name>[\w.]+)"):
        if match := re.fullmatch(form, gpu.strip().lower()):
            return match["name"], max(int(match.groupdict().get("count") or 1), 1)
    return "", 1


def _epochs(task: AskedTask, shape: Shape) -> float:
    """Passes over the rows in the task's time, by the rule that gives the hours (gradients/tasks/hours.py)."""
    per_second = PEAK_FLOPS * UTILISATION / (OPERATIONS * shape.parameters)
    return per_second * 3600 * task.hours / (task.rows * task.tokens_per_row)
