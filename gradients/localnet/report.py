"""The result of a run as one JSON object for scripts."""

from __future__ import annotations

from pathlib import Path

from gradients.client.models import MinerResult, TaskDetails
from gradients.domain.json import JsonObject
from gradients.localnet.plan import Plan
from gradients.localnet.snapshot import Snapshot
from gradients.tasks.jobs.measuring import CONTACT_SHEET

TASK_FIELDS = ("id", "type", "state", "metric", "better", "base_loss", "rows")
MINER_FIELDS = ("uid", "hotkey", "recipe", "loss", "stderr", "gain", "chance", "prize", "copy_of", "reason")


def report(snapshot: Snapshot, plan: Plan) -> JsonObject:
    """{"seconds", "tasks": […], "chain": {"block", "weights", "incentive"}}; shares are keyed by uid as text."""
    tasks = []
    for task in snapshot.tasks:
        shown = task.model_dump(mode="json")
        miners = [
            {**{field: row[field] for field in MINER_FIELDS}, "repo": model_folder(task, miner, plan)}
            for row, miner in zip(shown["miners"], task.miners, strict=True)
        ]
        tasks.append({**{field: shown[field] for field in TASK_FIELDS}, "miners": miners})
    return {
        "seconds": round(snapshot.seconds, 1),
        "tasks": tasks,
        "chain": {
            "block": snapshot.block,
            "weights": {str(uid): share for uid, share in snapshot.weights.items()},
            "incentive": {str(uid): share for uid, share in snapshot.incentive.items()},
        },
    }


def model_folder(task: TaskDetails, miner: MinerResult, plan: Plan) -> str | None:
    """Where the validator of this machine keeps a miner's model; None when there is no model to get."""
    if not miner.repo:
        return None
    return str(plan.validator.folder / "tasks" / task.id / "submissions" / miner.hotkey)


def contact_sheet(task: TaskDetails, plan: Plan) -> Path | None:
    """The picture that compares everybody's images, of tasks that have one."""
    sheet = plan.validator.folder / "tasks" / task.id / "results" / CONTACT_SHEET
    return sheet if sheet.exists() else None
