"""A base and rows tried together in a worker before a task is offered, so that what cannot be used is said to the customer at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from gradients.bases.bases import BaseInfo
from gradients.domain.task import TaskRequest
from gradients.errors import JobFailed, TaskInvalid
from gradients.execution.job import Executor, Job
from gradients.files.plain import check_plain
from gradients.tasks.jobs.message import Parameters
from gradients.tasks.jobs.rows import TrialJob, TrialResult
from gradients.tasks.registry import task_type

TRIAL_SECONDS = 600.0
MOST_TRIED_BYTES = 4 * 1024**3  # a thousand rows, each with what was retrieved for it


async def try_base(
    executor: Executor,
    request: TaskRequest,
    base: BaseInfo,
    rows: Path,
    *,
    folder: Path,
    threads: int = 1,
    deadline_seconds: float = TRIAL_SECONDS,
    numbers: Sequence[int] = (),
) -> TrialResult | None:
    """What base and rows are fit for; None for types that try nothing. Raises CustomerError for what cannot be used.

    Args:
        rows: a file of JSON lines that a worker has left, see gradients/tasks/trials.py.
        folder: the job's.
        numbers: where each row stood in the source, if that is known.
    """
    function = task_type(request.type).trial
    if function is None:
        return None
    asked = TrialJob(
        base_folder=base.folder,
        rows_file=check_plain(rows, most_bytes=MOST_TRIED_BYTES),
        numbers=tuple(numbers),
        parameters=cast(Parameters, request.parameters),
    )
    job = Job(
        function,
        asked.model_dump(mode="json"),
        folder,
        deadline_seconds=deadline_seconds,
        threads=threads,
        reads=(asked.base_folder, asked.rows_file),
    )
    try:
        return TrialResult.model_validate(await executor.run(job, report=lambda _: None))
    except JobFailed as error:
        if error.code != "job_deadline":
            raise
        raise TaskInvalid(  # so would every miner's worker and every measurement
            f"{base.name} and some of the rows take more than {deadline_seconds:.0f} s to try",
            code="base_too_slow",
            fix="Choose another base, or shorten the rows",
        ) from error
