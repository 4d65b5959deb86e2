"""What a miner may know of its own result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from gradients.axon.messages import Outcome
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import Hotkey, Task, TaskState
from gradients.errors import PeerRefused
from validator.ledger import Ledger

MOST_REASON = 1000  # characters


def outcome_of(ledger: Ledger, task_id: str, hotkey: Hotkey) -> Outcome:
    """A miner's result of a task that has ended. Raises PeerRefused before, and for whoever took no part in it."""
    task = ledger.tasks.find(task_id)
    submissions = ledger.submissions.of_task(task_id)
    if task is None or hotkey not in {submission.hotkey for submission in submissions}:
        raise PeerRefused(f"{hotkey} took no part in a task {task_id[:64]}", code="not_found")
    if task.state is TaskState.FAILED:
        reason = task.failure.message if task.failure else "The task has failed"
        return Outcome(task_id=task_id, state="failed", reason=reason[:MOST_REASON])
    if task.state is not TaskState.SCORED:
        raise PeerRefused(f"Task {task_id} is not scored yet", code="not_scored")
    return _scored(ledger, task, hotkey)


def _scored(ledger: Ledger, task: Task, hotkey: Hotkey) -> Outcome:
    placings = {placing.hotkey: placing for placing in ledger.placings.of_task(task.id)}
    measurements = ledger.submissions.measurements(task.id)
    base, ours, placing = measurements[BASE_ENTRANT], measurements.get(hotkey), placings[hotkey]
    return Outcome(
        task_id=task.id,
        state="scored",
        metric=base.metric.name,
        unit=base.metric.unit,
        better=base.metric.better,
        base_loss=base.value,
        loss=ours.value if ours else None,
        stderr=ours.stderr if ours else None,
        gain=ours.gain_over(base) if ours else None,
        rank=placing.rank,
        ranked=sum(each.rank is not None for each in placings.values()),
        chance=placing.points,
        prize=placing.adjusted_points,
        share=_share(ledger, task.id, hotkey),
        reason=placing.reason[:MOST_REASON],
    )


def _share(ledger: Ledger, task_id: str, hotkey: Hotkey) -> float | None:
    """Of the newest weights, if they count the task in."""
    for call in ledger.outbox.all(limit=1):
        if task_id in cast(list[str], call.payload["tasks"]):
            return cast(Mapping[str, float], call.payload["shares"]).get(hotkey, 0.0)
    return None
