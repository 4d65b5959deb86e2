"""A task as the rules of pay see it, from rows that an auditor can read too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradients.domain.evaluation import Measurement
from gradients.domain.failure import Failure
from gradients.domain.submission import BASE_ENTRANT, Submission
from gradients.domain.task import Task
from gradients.errors import Blame
from gradients.scoring.contest import Contest, Entry, Winner

NOT_MEASURED = Failure(Blame.OPERATOR, "not_measured", "The validator could not measure this submission")


def contest_of(
    task: Task,
    submissions: Sequence[Submission],
    measurements: Mapping[str, Measurement],
    *,
    seed: int,
    earlier: Sequence[Winner] = (),
) -> Contest:
    """The contest of a task's submissions, as far as they are measured; the base is, on all rows."""
    base = measurements[BASE_ENTRANT]
    entries = []
    for submission in submissions:
        measured = measurements.get(submission.hotkey)
        entries.append(
            Entry(
                submission.hotkey,
                measured.per_row if measured else (),
                submission.committed_at_block or 0,
                submission.committed_extrinsic or 0,
                failure=None if measured else submission.failure or NOT_MEASURED,
                fingerprint=measured.fingerprint if measured else None,
            )
        )
    return Contest(
        tuple(entries),
        base.per_row,
        base.metric.better,
        base_parameters=task.data.base_parameters,
        hours=task.request.hours,
        seed=seed,
        earlier=tuple(earlier),
    )
