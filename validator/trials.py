"""A base and rows tried together in a worker before a task is offered, so that what cannot be used is said to the customer at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import cast

from gradients.bases.bases import BaseInfo
from gradients.domain.task import TaskRequest
from gradients.errors import JobFailed, TaskInvalid
from gradients.execution.job import Executor, Job
from gradients.tasks.jobs import Parameters, TrialJob, TrialResult
from gradients.tasks.registry import task_type

LONGEST_ROWS, SPREAD_ROWS = 64, 960  # what is tried: the longest rows, and others from one end to the other
TRIAL_SECONDS = 600.0


def tried_rows(lengths: Sequence[int]) -> list[int]:
    """Positions of the rows that are tried: all of a small set."""
    if len(lengths) <= LONGEST_ROWS + SPREAD_ROWS:
        return list(range(len(lengths)))
    longest = sorted(range(len(lengths)), key=lambda position: -lengths[position])[:LONGEST_ROWS]
    spread = (number * len(lengths) // SPREAD_ROWS for number in range(SPREAD_ROWS))
    return sorted({*longest, *spread})


async def try_base(
    executor: Executor,
    request: TaskRequest,
    base: BaseInfo,
    rows: Callable[[], Iterable[str]],
    *,
    folder: Path,
    threads: int = 1,
    deadline_seconds: float = TRIAL_SECONDS,
    numbers: Sequence[int] = (),
) -> TrialResult | None:
    """What base and rows are fit for; None for types that try nothing. Raises CustomerError for what cannot be used.

    Args:
        rows: the prepared rows as JSON lines; asked for twice.
        folder: for the job, and the rows that it tries.
        numbers: where each row stood in the source, if that is known.
    """
    function = task_type(request.type).trial
    if function is None:
        return None
    chosen = await asyncio.to_thread(_write_tried, rows, folder / "rows.jsonl")
    asked = TrialJob(
        base_folder=base.folder,
        rows_file=folder / "rows.jsonl",
        numbers=tuple(numbers[position] for position in chosen) if numbers else (),
        parameters=cast(Parameters, request.parameters),
    )
    job = Job(
        function,
        asked.model_dump(mode="json"),
        folder / "job",
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
            f"{base.name} and {len(chosen)} of the rows take more than {deadline_seconds:.0f} s to try",
            code="base_too_slow",
            fix="Choose another base, or shorten the rows",
        ) from error


def _write_tried(rows: Callable[[], Iterable[str]], file: Path) -> list[int]:
    """Positions of the rows that are in the file now."""
    chosen = tried_rows([len(line) for line in rows()])
    wanted = set(chosen)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as written:
        written.writelines(line.rstrip("\n") + "\n" for position, line in enumerate(rows()) if position in wanted)
    return chosen
