"""`gradients miner plan`: what a miner would do with a task on a machine, and why. For people and for scripts."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from gradients.domain.json import JsonObject
from gradients.errors import SetupError
from gradients.tasks.hours import OPERATIONS, PEAK_FLOPS, UTILISATION
from gradients.tasks.picture_footprint import Size
from gradients.tasks.registry import TYPES, task_type
from miner.engines import Speed, alike
from miner.fit import name_of
from miner.fitting import Fitted
from miner.memory import GIB, Memory


class Gpu(NamedTuple):
    """One kind, as its maker describes it."""

    gibibytes: int
    teraflops: float  # dense bfloat16


GPUS = {
    "rtx4090": Gpu(24, 165),
    "a10g": Gpu(24, 70),
    "l4": Gpu(24, 121),
    "l40s": Gpu(48, 362),
    "a100": Gpu(80, 312),
    "h100": Gpu(80, PEAK_FLOPS / 1e12),
    "h200": Gpu(141, PEAK_FLOPS / 1e12),
    "b200": Gpu(180, 2250),
}
CORE_FLOPS = 60e9  # float32, of a core: 5,148 tokens of the shipped base a second (docs/benchmarks/training.md)
CHECKPOINTED = 4 / 3  # times the work, where the forward pass is made twice
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
    "micro_batch_rows",
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
    own: dict[str, JsonValue] | None = Field(
        default=None, description="the type's own parameters, where a task says them"
    )


class Pace(NamedTuple):
    """How fast a plan is carried out, about."""

    tokens_per_second: float
    source: str  # how that is known

    def epochs(self, task: AskedTask) -> float:
        """Passes over the rows in the task's time."""
        work = task.rows * task.tokens_per_row * task_type(task.type).effort.work_factor
        return self.tokens_per_second * 3600 * task.hours / work


def read_task(file: Path | None, **given: object) -> AskedTask:
    """The task in a JSON file, and what was said beside it. Raises SetupError."""
    try:
        told = json.loads(file.read_text(encoding="utf-8")) if file else {}
        asked = {name: value for name, value in given.items() if value is not None}
        own = {"own": told.pop("parameters")} if isinstance(told.get("parameters"), dict) else {}  # not the base's size
        task = AskedTask.model_validate({**told, **own, **asked})
    except (OSError, ValueError, TypeError, AttributeError, ValidationError) as error:
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
        gibibytes = float(GPUS[name].gibibytes if name in GPUS else name)
    except ValueError as error:
        raise SetupError(
            f"'{gpu}' is not a GPU that is known here", fix=f"Choose from {', '.join(GPUS)}, or say its GiB: --gpu 48"
        ) from error
    return Memory(int(gibibytes * GIB), is_gpu=True, gpus=gpus_in(gpu))


def pace_of(
    task: AskedTask, shape: Size, fitted: Fitted, memory: Memory, *, gpu: str | None, cores: int, past: Sequence[Speed]
) -> Pace | None:
    """How fast the plan is carried out: as tasks like it were here, else by the rule that gives hours; None where these don't go by tokens.

    Args:
        gpu: that was named, see `memory_of`; None: what is here.
        cores: of a CPU that would be used.
        past: of tasks of its type on this machine.
    """
    if not task_type(task.type).effort.goes_by_tokens:
        return None
    plan = fitted.plan
    measured = [each.tokens_per_second for each in alike(past, method=plan.method, parameters=shape.parameters)]
    if measured and gpu is None:
        return Pace(statistics.median(measured), "as tasks like it were trained here")
    work = OPERATIONS * shape.parameters * (CHECKPOINTED if plan.gradient_checkpointing else 1.0)
    if not memory.is_gpu:
        return Pace(cores * CORE_FLOPS / work, f"as {cores} cores did in docs/benchmarks/training.md")
    name = _named(gpu or "")[0]
    known = GPUS.get(name, GPUS["h100"])
    source = f"by the rule of hours for {name if name in GPUS else 'an h100, since the GPU was not named'}"
    return Pace(plan.processes * known.teraflops * 1e12 * UTILISATION / work, source)


def as_json(
    task: AskedTask, shape: Size, fitted: Fitted, memory: Memory, *, spread: Fitted | None, pace: Pace | None
) -> JsonObject:
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
        "row_tokens": fitted.row_tokens,
        "epochs_in_time": pace.epochs(task) if pace else None,
        "tokens_per_second": pace.tokens_per_second if pace else None,
        "speed_reason": pace.source if pace else "its time does not go by tokens",
        "plan": {name: value for name, value in plan.model_dump(mode="json").items() if name in _SHOWN},
    }


def as_text(
    task: AskedTask, shape: Size, fitted: Fitted, memory: Memory, *, spread: Fitted | None, pace: Pace | None
) -> Iterator[str]:
    """The same for people, a line each."""
    verdict = "fits" if fitted.fits else "does not fit: a task like it is declined"
    yield f"{task.type} on {shape.parameters / 1e9:.3g} billion weights {verdict}"
    yield f"  memory    {fitted.needed_bytes / GIB:.1f} GiB of {fitted.there_bytes / GIB:.1f} that can be used"
    for reason in fitted.fit.reasons if fitted.fit else ():
        yield f"            {reason}"
    if fitted.fits:
        told = fitted.plan.model_dump(mode="json")
        for name in _SHOWN:
            if told[name] is not None and not (name == "lora_rank" and told["method"] == "full"):
                why = f" ({fitted.engine.reason})" if name == "engine" else ""
                yield f"  {name:<23} {told[name]}{why}"
        if fitted.row_tokens:
            yield f"  {'row_tokens':<23} {fitted.row_tokens} (that go through the model together at the least)"
        if pace is not None:
            passes = f"{pace.epochs(task):.2g} passes over {task.rows:,} rows in {task.hours:g} h"
            yield f"  time      about {passes}: {pace.tokens_per_second:,.0f} tokens a second, {pace.source}"
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
