"""What one further submission takes by task type, on each type's demonstration: `python -m scripts.benchmarks.evaluation_types FOLDER`.

FOLDER holds what `lay_out` has left, so that another commit's code can measure the same rows and models: the process takes `gradients` from
PYTHONPATH. It prints one JSON object: type -> {"rows", "fixed", "entrant"}, in seconds of one thread.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).parents[2]
TRAINING_SECONDS = 20.0
RUNS = 3


def lay_out(folder: Path) -> None:
    """For every type: the held-out rows of its demonstration, a model that was trained on it for some steps, and how to measure it."""
    from gradients.bases.bases import SHIPPED
    from gradients.execution.functions import resolve
    from gradients.localnet.demo import spec
    from gradients.tasks.jobs.message import Parameters
    from gradients.tasks.jobs.training import TrainingPlan, TrainJob
    from gradients.tasks.preparation import prepare
    from gradients.tasks.registry import TYPES, task_type, validate_request

    for name in TYPES:
        own, kind = folder / name, task_type(name)
        request = validate_request(spec(name, number=0, hours=0.1, base=None))
        data = prepare(kind, request, salt=b"s" * 32, folder=own / "data")
        plan = {
            "recipe": "bench",
            "method": "lora",
            "learning_rate": 1e-3,
            "max_epochs": 0.2,
            "validation_fraction": 0.0,
        }
        job = TrainJob(
            base_folder=SHIPPED / request.base,
            train_file=data.train_file,
            parameters=cast(Parameters, request.parameters),
            plan=TrainingPlan.model_validate(plan),
            seed=1,
            deadline_unix=time.time() + TRAINING_SECONDS,
            checkpoint_folder=own / "checkpoint",
            output_folder=own / "model",
        )
        resolve(kind.train)(job.model_dump(mode="json"), lambda _: None)
        _name_modules_one_by_one(own / "model" / "adapter_config.json")
        told = {
            "function": kind.measure,
            "rows": data.held_out_file.read_bytes().count(b"\n"),
            "arguments": {
                "base_folder": str(SHIPPED / request.base),
                "held_out_file": str(data.held_out_file),
                "parameters": dict(request.parameters),
                "entrants": [
                    {"id": "base", "folder": None},
                    *({"id": f"m{n}", "folder": str(own / "model")} for n in range(2)),
                ],
                "results_folder": str(own / "results"),
                "seed": 5,
                "sketch_key": "k",
            },
        }
        (own / "job.json").write_text(json.dumps(told))


def _name_modules_one_by_one(config: Path) -> None:
    """A pattern says the same, but older code reads lists alone."""
    if config.is_file():
        told = json.loads(config.read_text())
        if isinstance(told["target_modules"], str):
            told["target_modules"] = sorted({name.rpartition(".")[2] for name in told["target_modules"].split("|")})
        config.write_text(json.dumps(told))


def seconds_by_type(folder: Path, *, code: Path = ROOT) -> Mapping[str, Mapping[str, float]]:
    """What the code of a checkout takes on what was laid out."""
    answer = subprocess.run(
        [sys.executable, str(Path(__file__)), str(folder)],
        env={**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"},
        cwd=code,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    found: Mapping[str, Mapping[str, float]] = json.loads(answer.stdout.splitlines()[-1])
    return found


def beside(commit: str) -> Mapping[str, tuple[Mapping[str, float], Mapping[str, float] | None]]:
    """type -> what ours takes, and what the code of an older commit does on the same rows and models.

    Args:
        commit: none compares with nothing.
    """
    with tempfile.TemporaryDirectory() as place:
        lay_out(Path(place) / "types")
        ours = seconds_by_type(Path(place) / "types")
        theirs: Mapping[str, Mapping[str, float]] = {}
        if commit:
            old = Path(place) / "old"
            subprocess.run(
                ["git", "-C", str(ROOT), "worktree", "add", "--detach", str(old), commit],
                check=True,
                capture_output=True,
            )
            try:
                theirs = seconds_by_type(Path(place) / "types", code=old)
            finally:
                subprocess.run(
                    ["git", "-C", str(ROOT), "worktree", "remove", "--force", str(old)],
                    check=False,
                    capture_output=True,
                )
    return {name: (own, theirs.get(name)) for name, own in ours.items()}


def _measure(folder: Path) -> dict[str, dict[str, float]]:
    import importlib

    found = {}
    for file in sorted(folder.glob("*/job.json")):
        told: dict[str, Any] = json.loads(file.read_text())
        module, _, function = told["function"].partition(":")
        work = getattr(importlib.import_module(module), function)
        arguments = _known(told["arguments"])
        results, totals, entrants = Path(told["arguments"]["results_folder"]), [], []
        for _ in range(RUNS):
            shutil.rmtree(results, ignore_errors=True)
            started = time.perf_counter()
            work(arguments, lambda _: None)
            totals.append(time.perf_counter() - started)
            if any(json.loads(left.read_text())["value"] is None for left in results.glob("*.json")):
                sys.exit(f"an entrant of {file.parent.name} failed: see {results}")
            seconds = [json.loads(left.read_text())["seconds"] for left in sorted(results.glob("*.json"))]
            totals[-1] -= sum(seconds)
            entrants.append(min(json.loads((results / f"m{n}.json").read_text())["seconds"] for n in range(2)))
        found[file.parent.name] = {"rows": told["rows"], "fixed": min(totals), "entrant": min(entrants)}
    return found


def _known(arguments: dict[str, Any]) -> dict[str, Any]:
    """What the code at hand, which may be older, knows of the arguments."""
    from gradients.tasks.jobs.measuring import MeasureJob

    held_out = arguments["held_out_file"]
    return {
        name: value
        for name, value in (*arguments.items(), ("heldout_file", held_out))
        if name in MeasureJob.model_fields
    }


if __name__ == "__main__":
    print(json.dumps(_measure(Path(sys.argv[1]))))
