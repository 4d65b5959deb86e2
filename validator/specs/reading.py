"""Customers' data: how they are fetched, what workers on them may use, and whose fault it is when they want more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from gradients.client.models import SourceReport
from gradients.datasets.access import Access
from gradients.datasets.downloads import Deadline
from gradients.datasets.sources import name_of, parts_of
from gradients.domain.json import JsonObject
from gradients.domain.task import SourceCount, TaskRequest
from gradients.errors import DatasetInvalid, JobFailed
from gradients.execution.job import Executor, Job, JobLimits
from gradients.tasks.base import TaskType
from gradients.tasks.jobs.rows import PrepareJob, SurveyJob
from gradients.tasks.preparation import Fetched, fetch_sources
from validator.settings import ReadingSettings

MEBIBYTE = 1024 * 1024


async def fetch_data(
    threads: ThreadPoolExecutor, kind: TaskType, request: TaskRequest, folder: Path, access: Access
) -> Fetched:
    """What `fetch_sources` gives, in one of these threads, of which no other work depends: a slow source must not hold up the daemon.

    A fetch that nobody waits for any more, of a task that was taken back, is ended.
    """
    deadline = Deadline()
    fetch = partial(fetch_sources, kind, request, folder, access=access, deadline=deadline)
    try:
        return await asyncio.get_running_loop().run_in_executor(threads, fetch)
    finally:
        deadline.end()


async def read_data(
    executor: Executor, function: str, asked: PrepareJob | SurveyJob, *, folder: Path, settings: ReadingSettings
) -> JsonObject:
    """What the worker function returns, its job being in `folder`.

    Raises DatasetInvalid also where the data want more than the limits, or break the program that reads them: another try would end the
    same way. Raises JobFailed for what this machine lacks.
    """
    job = Job(
        function,
        asked.model_dump(mode="json"),
        folder,
        deadline_seconds=settings.deadline_seconds,
        reads=asked.reads(),
        writes=(asked.folder,),
        packages=(asked.declaration.partition(".")[0],),
        limits=JobLimits(
            memory_bytes=settings.memory_mebibytes * MEBIBYTE,
            cpu_seconds=settings.cpu_seconds,
            open_files=settings.open_files,
        ),
    )
    try:
        return await executor.run(job, report=lambda _: None)
    except JobFailed as error:
        raise whose(error, settings) from error


def source_reports(request: TaskRequest, counted: Sequence[SourceCount]) -> tuple[SourceReport, ...]:
    """What people are told of several data sets, each with its name; nothing of one alone."""
    sources = parts_of(cast(JsonValue, request.dataset)) if counted else []
    return tuple(
        SourceReport(dataset=name_of(source), **asdict(count)) for source, count in zip(sources, counted, strict=True)
    )


def whose(error: JobFailed, settings: ReadingSettings) -> DatasetInvalid | JobFailed:
    """The customer's failure, when the kernel held the worker to its limits or a parser broke; a machine without memory says SIGKILL."""
    what = {
        "out_of_memory": f"takes more than {settings.memory_mebibytes:,} MiB of memory to read",
        "job_slow": f"takes more than {settings.cpu_seconds:,} s of processor time to read",
        "job_aborted": "breaks the program that reads it",
    }.get(error.code)
    if what is None:
        return error
    return DatasetInvalid(
        f"This data set {what}", code="dataset_too_dear", fix="Give a part of it, or rows that are plainer"
    )
