"""What people and scripts see of tasks: one JSON object per task, from the ledger and from what miners say of their progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

from gradients.axon.messages import AttemptStatus
from gradients.domain.evaluation import Measurement, Placing
from gradients.domain.failure import Failure
from gradients.domain.json import Json, JsonObject
from gradients.domain.submission import BASE_ENTRANT, Submission, SubmissionState
from gradients.domain.task import Hotkey, Task, TaskState
from gradients.tasks.registry import task_type
from validator.ledger import Ledger


class LastWords(Protocol):
    """How far miners are, by their own word."""

    def of(self, task_id: str, hotkey: str) -> AttemptStatus | None:
        """What the miner said last, or None."""
        ...


@dataclass(frozen=True, slots=True)
class Board:
    """Views of tasks. Losses appear only when a task is scored, so that nobody can copy them into weights before."""

    ledger: Ledger
    progress: LastWords

    def task(self, task: Task) -> JsonObject:
        """Everything about one task that its customer may see."""
        submissions = self.ledger.submissions.of_task(task.id)
        scored = task.state is TaskState.SCORED
        measurements = self.ledger.submissions.measurements(task.id) if scored else {}
        placings = {placing.hotkey: placing for placing in self.ledger.placings.of_task(task.id)}
        base = measurements.get(BASE_ENTRANT)
        miners: list[dict[str, Json]] = [
            _miner(s, measurements.get(s.hotkey), placings.get(s.hotkey), self.progress.of(task.id, s.hotkey))
            for s in submissions
        ]
        return {
            **self.summary(task),
            "data": _data(task),
            "blocks": _blocks(task),
            "base_loss": base.value if base else None,
            "base_stderr": base.stderr if base else None,
            "miners": cast(Json, sorted(miners, key=_best_first)),
        }

    def summary(self, task: Task) -> JsonObject:
        """One task in a list."""
        metric = task_type(task.request.type).metric
        return {
            "id": task.id,
            "type": task.request.type,
            "state": task.state.value,
            "base": task.request.base,
            "hours": task.request.hours,
            "created_at": task.created_at,
            "metric": {"name": metric.name, "unit": metric.unit},
            "better": metric.better,
            "rows": task.prepared.held_out_rows if task.prepared else None,
            "failure": _failure(task.failure),
        }

    def winner(self, task: Task) -> Hotkey | None:
        """The best miner of a scored task, or None when nobody has a place."""
        best = next((placing for placing in self.ledger.placings.of_task(task.id) if placing.rank == 1), None)
        return best.hotkey if best else None


def repo_path(task_id: str, hotkey: str) -> str:
    """Where the API serves a collected repo."""
    return f"/v1/tasks/{task_id}/models/{hotkey}"


def _miner(
    submission: Submission, measurement: Measurement | None, placing: Placing | None, status: AttemptStatus | None
) -> dict[str, Json]:
    has_repo = submission.state in (SubmissionState.COLLECTED, SubmissionState.MEASURED)
    reason = placing.reason if placing else submission.failure.message if submission.failure else ""
    return {
        "uid": submission.uid,
        "hotkey": submission.hotkey,
        "recipe": submission.recipe,
        "state": submission.state.value,
        "loss": measurement.value if measurement else None,
        "stderr": measurement.stderr if measurement else None,
        "extras": dict(measurement.extras) if measurement else {},
        "rank": placing.rank if placing else None,
        "points": placing.points if placing else None,
        "reason": reason,
        "repo": repo_path(submission.task_id, submission.hotkey) if has_repo and placing else None,
        "progress": _progress(status),
    }


def _progress(status: AttemptStatus | None) -> JsonObject | None:
    return status.model_dump(mode="json", exclude={"version", "task_id"}) if status else None


def _best_first(miner: Mapping[str, Json]) -> tuple[float, float]:
    rank, uid = miner["rank"], miner["uid"]
    return (float(rank) if isinstance(rank, int) else float("inf"), float(uid) if isinstance(uid, int) else 0.0)


def _data(task: Task) -> JsonObject | None:
    if (data := task.prepared) is None:
        return None
    return {
        "train_rows": data.train_rows,
        "held_out_rows": data.held_out_rows,
        "made_up_rows": data.made_up_rows,
        "removed": dict(data.removed),
        "train_sha256": data.train.sha256,
        "held_out_commitment": data.held_out_commitment,
        "base_digest": data.base_digest,
        "base_parameters": data.base_parameters,
    }


def _blocks(task: Task) -> JsonObject | None:
    if (window := task.window) is None:
        return None
    return {
        "started": window.started_at_block,
        "deadline": window.deadline_block,
        "reveal_until": window.reveal_until_block,
    }


def _failure(failure: Failure | None) -> JsonObject | None:
    return {"blame": failure.blame.value, "code": failure.code, "message": failure.message} if failure else None
