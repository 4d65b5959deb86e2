"""What a job is and who may run one.

A job is a function named as "module:function" that takes a JSON object and a way to report progress, and returns a JSON object.
It runs away from the control plane, so that torch, its memory and its crashes stay there too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gradients.domain.json import JsonObject

ReportProgress = Callable[[JsonObject], None]
WorkerFunction = Callable[[JsonObject, ReportProgress], JsonObject]


@dataclass(frozen=True, slots=True)
class Job:
    """One call of a worker function."""

    function: str  # "module:function" with the signature of WorkerFunction
    arguments: JsonObject
    folder: Path  # the job's own: job.json, result.json and the worker's stderr lie here
    deadline_seconds: float  # wall time until the whole process group is killed
    threads: int = 1  # CPU threads of torch; two torch processes with two threads each stall one another


class Executor(Protocol):
    """Runs jobs away from the caller's process."""

    async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
        """The function's result; `report` is called on the loop with each progress object, in order.

        A result already in the job's folder, left by an earlier run of the same arguments, is returned without running again.
        Raises the GradientsError that the function raised, and JobFailed when the process crashed, ran out of memory or out of time.
        Cancelling the call kills the process group before it returns.
        """
        ...
