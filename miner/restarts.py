"""A training's worker, and the ones after it: what a death is answered with.

Covers: workers that the kernel kills, that crash, and that find no memory. Does not cover: what training says by itself, such as that it
diverged, which ends it at once.
"""

from __future__ import annotations

from dataclasses import replace

from gradients.clock import Clock
from gradients.domain.json import JsonObject
from gradients.errors import JobFailed
from gradients.execution.job import Executor, Job, ReportProgress
from gradients.log import get_logger

REST_SECONDS = 2.0
WORKER_DEATHS = frozenset({"job_killed", "job_crashed", "out_of_memory"})  # another start goes on from the checkpoint
MEMORY_DEATHS = frozenset({"job_killed", "out_of_memory"})  # after which a plan that takes less may live
MOST_DEATHS = 3  # of workers in a row, none of which came further than the one before

log = get_logger("attempt")


class PlanTooLarge(JobFailed):
    """Workers ran out of memory, in all likelihood; with a plan that takes less one may live."""


async def run_worker(
    executor: Executor,
    job: Job,
    *,
    report: ReportProgress,
    clock: Clock,
    until: float,
    grace_seconds: float,
    is_least: bool,
) -> JsonObject:
    """What the worker returns. One that dies is started again from its checkpoint, as long as that leads anywhere and time is left.

    Raises JobFailed with the first reason, since later ones may only say that the time is over; PlanTooLarge after deaths by memory.

    Args:
        until: wall time, Unix seconds.
        grace_seconds: beyond it, for a worker to end in.
        is_least: whether no plan takes less memory; otherwise one that ran out of it without coming further is not tried again.
    """
    first: JobFailed | None = None
    starts, deaths, furthest = 0, 0, 0.0
    while True:
        reached = [furthest]

        def listen(progress: JsonObject, reached: list[float] = reached) -> None:
            fraction = progress.get("fraction")
            reached.append(fraction if isinstance(fraction, float) else 0.0)
            report(progress)

        try:
            return await executor.run(job, report=listen)
        except JobFailed as error:
            if error.code not in WORKER_DEATHS:
                raise first or error from error
            first, starts = first or error, starts + 1
            further = max(reached) > furthest
            deaths, furthest = 1 if further else deaths + 1, max(reached)
            is_hopeless = error.code == "out_of_memory" and not further and not is_least
            rest = REST_SECONDS * 2.0 ** (deaths - 1)
            left = until - clock.now() - rest
            if deaths >= MOST_DEATHS or is_hopeless or left <= 0:
                told = f" (started {starts} times, {furthest:.0%} done)" if starts > 1 else ""
                kind = PlanTooLarge if error.code in MEMORY_DEATHS and left > 0 else JobFailed
                raise kind(first.message + told, code=first.code, fix=first.fix) from error
            log.warning(
                "worker_restarts",
                task=job.folder.parent.name,
                code=error.code,
                done=round(furthest, 3),
                problem=str(error),
            )
        await clock.sleep(rest)
        job = replace(job, deadline_seconds=max(until - clock.now(), 0.0) + grace_seconds)
