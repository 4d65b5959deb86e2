"""What people and scripts see of tasks, from the ledger and from what miners say of their progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gradients.axon.messages import AttemptStatus
from gradients.bases.continued import continued_task
from gradients.client.models import (
    Ancestor,
    MetricName,
    MinerProgress,
    MinerResult,
    TaskBlocks,
    TaskData,
    TaskDetails,
    TaskFailure,
    TaskSummary,
)
from gradients.domain.evaluation import Interval, Measurement, Placing
from gradients.domain.submission import BASE_ENTRANT, Submission, SubmissionState
from gradients.domain.task import Hotkey, Task, TaskState, Window
from gradients.tasks.registry import task_type
from validator.ledger import Ledger
from validator.specs.reading import source_reports

_NOTES = {
    TaskState.DRAFT: "The base is fetched and the data are prepared",
    TaskState.OPEN: "The task is offered to miners",
    TaskState.ASSIGNED: "Miners train until the deadline, and their models are collected after it",
    TaskState.COLLECTED: "The models are measured on the held-out rows",
    TaskState.MEASURED: "The models are compared",
    TaskState.SCORED: "The best model can be downloaded",
    TaskState.CANCELLED: "Cancelled before miners were drawn: nobody has trained",
}


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
        last_event = self.ledger.events.last(task.id)  # read first: what comes later is in the stream behind it
        scored = task.state is TaskState.SCORED
        measurements = self.ledger.submissions.measurements(task.id) if scored else {}
        placings = {placing.hotkey: placing for placing in self.ledger.placings.of_task(task.id)}
        base, data, window = measurements.get(BASE_ENTRANT), task.prepared, task.window
        dropped_at = self.ledger.submissions.dropped_at(task.id) if scored else {}
        miners = [
            _miner(
                s,
                measurement=measurements.get(s.hotkey),
                base=base,
                placing=placings.get(s.hotkey),
                status=self.progress.of(task.id, s.hotkey),
                dropped_at=dropped_at.get(s.hotkey),
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
                sources=source_reports(task.request, data.sources),
                tried_rows=data.tried_rows,
                cut_rows=data.cut_rows,
                train_sha256=data.train.sha256,
                held_out_commitment=data.held_out_commitment,
                base_digest=data.base_digest,
                base_parameters=data.base_parameters,
            )
            if data
            else None,
            blocks=_blocks(task, window, self.ledger.events.times("window_set", [task.id]).get(task.id))
            if window
            else None,
            last_event=last_event,
            lineage=self._lineage(task),
            continued_by=tuple(self.ledger.tasks.continuations(task.id)),
            base_loss=base.value if base else None,
            base_stderr=base.stderr if base else None,
            miners=tuple(sorted(miners, key=lambda miner: (miner.rank or float("inf"), miner.uid))),
        )

    def _lineage(self, task: Task) -> tuple[Ancestor, ...]:
        before = self.ledger.tasks.lineage(task)
        best = self.ledger.placings.best_of([each.id for each in before])
        return tuple(
            Ancestor(
                task=each.id,
                type=each.request.type,
                base=each.request.base,
                hotkey=best[each.id].hotkey if each.id in best else None,
            )
            for each in before
        )

    def summary(self, task: Task) -> TaskSummary:
        """One task in a list."""
        return self.summaries([task])[0]

    def as_posted(self, task: Task) -> TaskSummary:
        """What was said of the task when it was posted, whatever has become of it."""
        return self.summary(Task(task.id, task.request, TaskState.DRAFT, task.created_at))

    def summaries(self, tasks: Sequence[Task]) -> list[TaskSummary]:
        """Tasks of a list, looked up together."""
        scored = [task.id for task in tasks if task.state is TaskState.SCORED]
        best = {task: placing.hotkey for task, placing in self.ledger.placings.best_of(scored).items()}
        dropped = self.ledger.submissions.dropped_of(best)
        obstacle = self.obstacle() if any(map(_is_offered, tasks)) else ""
        return [
            _summary(
                task,
                has_model=task.id in best,
                is_dropped=task.id in dropped,
                obstacle=obstacle if _is_offered(task) else "",
            )
            for task in tasks
        ]

    def progress_of(self, task_id: str) -> dict[str, MinerProgress]:
        """Hotkey -> how far the miner is, by its own word; of those that have said."""
        hotkeys = [submission.hotkey for submission in self.ledger.submissions.of_task(task_id)]
        said = {hotkey: self.progress.of(task_id, hotkey) for hotkey in hotkeys}
        return {hotkey: MinerProgress.model_validate(words.model_dump()) for hotkey, words in said.items() if words}

    def winner(self, task: Task) -> Hotkey | None:
        """The best miner of a scored task, or None when nobody has a place."""
        best = next((placing for placing in self.ledger.placings.of_task(task.id) if placing.rank == 1), None)
        return best.hotkey if best else None


def _is_offered(task: Task) -> bool:
    """Whether the task waits for miners to take it."""
    return task.state is TaskState.OPEN and task.window is None


def _summary(task: Task, *, has_model: bool, is_dropped: bool, obstacle: str) -> TaskSummary:
    metric, failure = task_type(task.request.type).metric, task.failure
    return TaskSummary(
        id=task.id,
        type=task.request.type,
        state=task.state,
        note=_note(task, has_model=has_model, is_dropped=is_dropped, obstacle=obstacle),
        has_model=has_model if task.state.ended else None,
        base=task.request.base,
        continues=continued_task(task.request.base),
        hours=task.request.hours,
        created_at=task.created_at,
        metric=MetricName(name=metric.name, unit=metric.unit),
        better=metric.better,
        rows=task.prepared.held_out_rows if task.prepared else None,
        failure=TaskFailure(blame=failure.blame, code=failure.code, message=failure.message) if failure else None,
    )


def _note(task: Task, *, has_model: bool, is_dropped: bool, obstacle: str) -> str:
    """The state as its customer would ask for it."""
    if obstacle:
        return f"Waits, and goes on by itself: it cannot be offered to miners now ({obstacle})"
    if task.state is TaskState.FAILED:
        return task.failure.message if task.failure else "The task has failed"
    if task.state is TaskState.SCORED and not has_model:
        return "Ended without a model: no miner handed in one that is better than the base; its miners' reasons say why"
    if is_dropped:
        return "The best model is no longer kept; its result is"
    return _NOTES[task.state]


def _blocks(task: Task, window: Window, started_at: float | None) -> TaskBlocks:
    """The blocks with their times, by the pace that the window was made with: so many blocks for the task's hours.

    Of a task that all its miners have given up the deadline was brought forward, and nothing is collected after it: it tells no pace.
    """
    if window.reveal_until_block == window.deadline_block:
        return TaskBlocks(
            started=window.started_at_block,
            deadline=window.deadline_block,
            reveal_until=window.reveal_until_block,
            started_at=started_at,
        )
    seconds = task.request.hours * 3600.0
    block_seconds = seconds / max(window.deadline_block - window.started_at_block, 1)
    collecting = (window.reveal_until_block - window.deadline_block) * block_seconds
    return TaskBlocks(
        started=window.started_at_block,
        deadline=window.deadline_block,
        reveal_until=window.reveal_until_block,
        started_at=started_at,
        deadline_at=started_at + seconds if started_at is not None else None,
        reveal_until_at=started_at + seconds + collecting if started_at is not None else None,
    )


def _miner(
    submission: Submission,
    *,
    measurement: Measurement | None,
    base: Measurement | None,
    placing: Placing | None,
    status: AttemptStatus | None,
    dropped_at: float | None,
) -> MinerResult:
    has_repo = submission.state in (SubmissionState.COLLECTED, SubmissionState.MEASURED)
    path = f"/v1/tasks/{submission.task_id}/models/{submission.hotkey}"
    loss = Interval.around(measurement.value, measurement.stderr) if measurement else None
    gain = measurement.gain_interval(base) if measurement and base else None
    return MinerResult(
        uid=submission.uid,
        hotkey=submission.hotkey,
        recipe=submission.recipe,
        state=submission.state,
        loss=measurement.value if measurement else None,
        stderr=measurement.stderr if measurement else None,
        loss_low=loss.low if loss else None,
        loss_high=loss.high if loss else None,
        extras=dict(measurement.extras) if measurement else {},
        rank=placing.rank if placing else None,
        gain=measurement.gain_over(base) if measurement and base else None,
        gain_low=gain.low if gain else None,
        gain_high=gain.high if gain else None,
        chance=placing.points if placing else None,
        prize=placing.adjusted_points if placing else None,
        copy_of=placing.copy_of if placing else None,
        reason=placing.reason if placing else submission.failure.message if submission.failure else "",
        repo=path if has_repo and placing and dropped_at is None else None,
        dropped_at=dropped_at,
        progress=MinerProgress.model_validate(status.model_dump()) if status else None,
    )
