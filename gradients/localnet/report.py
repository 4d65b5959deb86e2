"""The result of a run as one JSON object for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from gradients.domain.json import JsonObject
from gradients.localnet.plan import Plan
from gradients.localnet.snapshot import Snapshot
from gradients.tasks.jobs import CONTACT_SHEET

TASK_KEYS = ("id", "type", "state", "metric", "better", "base_loss", "rows")
MINER_KEYS = ("uid", "hotkey", "recipe", "loss", "stderr", "points", "reason")


def report(snapshot: Snapshot, plan: Plan) -> JsonObject:
    """{"seconds", "tasks": […], "chain": {"block", "weights", "incentive"}}; shares are keyed by uid as text."""
    return {
        "seconds": round(snapshot.seconds, 1),
        "tasks": [_task(task, plan) for task in snapshot.tasks],
        "chain": {
            "block": snapshot.block,
            "weights": {str(uid): share for uid, share in snapshot.weights.items()},
            "incentive": {str(uid): share for uid, share in snapshot.incentive.items()},
        },
    }


def best_model(task: JsonObject, plan: Plan) -> str | None:
    """The folder of a task's best model on this machine."""
    miners = cast(Sequence[JsonObject], task["miners"])
    return next((_repo(task, miner, plan) for miner in miners if miner["rank"] == 1), None)


def contact_sheet(task: JsonObject, plan: Plan) -> Path | None:
    """The picture that compares everybody's images, of tasks that have one."""
    sheet = plan.validator.folder / "tasks" / str(task["id"]) / "results" / CONTACT_SHEET
    return sheet if sheet.exists() else None


def _task(task: JsonObject, plan: Plan) -> JsonObject:
    miners = cast(Sequence[JsonObject], task["miners"])
    rows = [{**{key: miner[key] for key in MINER_KEYS}, "repo": _repo(task, miner, plan)} for miner in miners]
    return {**{key: task[key] for key in TASK_KEYS}, "miners": rows}


def _repo(task: JsonObject, miner: JsonObject, plan: Plan) -> str | None:
    """Where the validator of this machine keeps a miner's model."""
    if not miner["repo"]:
        return None
    return str(plan.validator.folder / "tasks" / str(task["id"]) / "submissions" / str(miner["hotkey"]))
