"""What people and scripts see of tasks, from the ledger and from what miners say of their progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gradients.axon.messages import AttemptStatus
from gradients.client.models import (
    MetricName,
    MinerProgress,
    MinerResult,
    TaskBlocks,
    TaskData,
    TaskDetails,
    TaskFailure,
    TaskSummary,
)
from gradients.domain.evaluation import Measurement, Placing
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
    obstacle: Callable[[], str] = (
        str  # what stands against offering tasks to miners at the moment; empty when nothing does
    )

    def task(self, task: Task) -> TaskDetails:
        """Everything about one task that its customer may see."""
        scored = task.state is TaskState.SCORED
        measurements = self.ledger.submissions.measurements(task.id) if scored else {}
        placings = {placing.hotkey: placing for placing in self.ledger.placings.of_task(task.id)}
        base, data, window = measurements.get(BASE_ENTRANT), task.prepared, task.window
        miners = [
            _miner(
                s,
                measurement=measurements.get(s.hotkey),
                base=base,
                placing=placings.get(s.hotkey),
                status=self.progress.of(task.id, s.hotkey),
            )
            for s in self.ledger.submissions.of_task(task.id)
        ]
        return TaskDetails(
            **dict(self.summary(task)),
            data=TaskData(
                train_rows=data.train_rows,
                held_out_rows=data.held_out_rows,
                made_up_rows=data.made_up_rows,
                removed=dict(data.removed),
                tried_rows=data.tried_rows,
                cut_rows=data.cut_rows,
                train_sha256=data.train.sha256,
                held_out_commitment=data.held_out_commitment,
                base_digest=data.base_digest,
                base_parameters=data.base_parameters,
            )
            if data
            else None,
            blocks=TaskBlocks(
                started=window.started_at_block,
                deadline=window.deadline_block,
                reveal_until=window.reveal_until_block,
            )
            if window
            else None,
            base_loss=base.value if base else None,
            base_stderr=base.stderr if base else None,
            miners=tuple(sorted(miners, key=lambda miner: (miner.rank or float("inf"), miner.uid))),
        )

    def summary(self, task: Task) -> TaskSummary:
        """One task in a list."""
        metric, failure = task_type(task.request.type).metric, task.failure
        obstacle = self.obstacle() if task.state is TaskState.OPEN and task.window is None else ""
        return TaskSummary(
            id=task.id,
            type=task.request.type,
            state=task.state,
            base=task.request.base,
            hours=task.request.hours,
            created_at=task.created_at,
            metric=MetricName(name=metric.name, unit=metric.unit),
            better=metric.better,
            rows=task.prepared.held_out_rows if task.prepared else None,
            note=f"Waits, and goes on by itself: it cannot be offered to miners now ({obstacle})" if obstacle else "",
            failure=TaskFailure(blame=failure.blame, code=failure.code, message=failure.message) if failure else None,
        )

    def winner(self, task: Task) -> Hotkey | None:
        """The best miner of a scored task, or None when nobody has a place."""
        best = next((placing for placing in self.ledger.placings.of_task(task.id) if placing.rank == 1), None)
        return best.hotkey if best else None


def _miner(
    submission: Submission,
    *,
    measurement: Measurement | None,
    base: Measurement | None,
    placing: Placing | None,
    status: AttemptStatus | None,
) -> MinerResult:
    has_repo = submission.state in (SubmissionState.COLLECTED, SubmissionState.MEASURED)
    path = f"/v1/tasks/{submission.task_id}/models/{submission.hotkey}"
    return MinerResult(
        uid=submission.uid,
        hotkey=submission.hotkey,
        recipe=submission.recipe,
        state=submission.state,
        loss=measurement.value if measurement else None,
        stderr=measurement.stderr if measurement else None,
        extras=dict(measurement.extras) if measurement else {},
        rank=placing.rank if placing else None,
        gain=measurement.gain_over(base) if measurement and base else None,
        chance=placing.points if placing else None,
        prize=placing.adjusted_points if placing else None,
        copy_of=placing.copy_of if placing else None,
        reason=placing.reason if placing else submission.failure.message if submission.failure else "",
        repo=path if has_repo and placing else None,
        progress=MinerProgress.model_validate(status.model_dump()) if status else None,
    )
