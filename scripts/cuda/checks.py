"""What must hold on a GPU box: each check runs in a process of its own and answers with figures and what did not hold.

The same checks run on a CPU with tiny shapes (`--rehearse`), so that a mistake in them shows before a GPU is paid for.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from gradients.ml.device import choose_device
from gradients.tasks.jobs.measuring import Entrant, EntrantResult, MeasureJob
from scripts.cuda.ground import GIB, Findings, MemoryWatch, Scale, peak_gib, random_base, tokens_a_row, write_rows
from scripts.cuda.models import write_random_adapter
from scripts.cuda.training import full, lora, out_of_memory, resumed, short_of_memory

ROOT = Path(__file__).parents[2]
ENTRANTS = 4


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
    return _market(scale, folder, "--base", str(random_base("half-b", scale.half_b, scale, folder)))


def _market(scale: Scale, folder: Path, *flags: str) -> Findings:
    found = Findings()
    watch = MemoryWatch() if not scale.rehearsal else None
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


def measuring(scale: Scale, folder: Path) -> Findings:
    """One measuring job on a 7B-shaped base: the base and four adapters on the same rows."""
    from gradients.tasks.instruct.metric import measure

    base = random_base("seven-b", scale.seven_b, scale, folder)
    adapters = [
        write_random_adapter(base, folder / f"adapter-{number}", rank=16, seed=number) for number in range(ENTRANTS)
    ]
    entrants = [
        Entrant(id="base"),
        *(Entrant(id=path.name, folder=path) for path in adapters),
        Entrant(id="base-again"),
    ]
    rows = write_rows(folder / "rows.jsonl", rows=scale.rows, words=scale.row_words)
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
    found = Findings({"seconds, loading included": round(seconds, 1), "peak GPU GiB": peak_gib(scale)})
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
        found.figures["tokens/s"] = round(scale.rows * tokens_a_row(base, rows) / each)
        found.must(math.isfinite(results["base"].value or math.nan), "the loss is not finite")
    return found


# In this order: what tells most comes first, should the time run out.
CHECKS: Mapping[str, Callable[[Scale, Path], Findings]] = {
    "device": device,
    "tests": tests,
    "market": market,
    "lora": lora,
    "measuring": measuring,
    "short_of_memory": short_of_memory,
    "full": full,
    "resumed": resumed,
    "out_of_memory": out_of_memory,
    "market_half_b": market_half_b,
}
