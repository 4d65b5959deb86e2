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
WAITING: JsonObject = {
    "waiting": True
}  # this very object: an executor's word that the job has not begun; no job can report it
WorkerFunction = Callable[[JsonObject, ReportProgress], JsonObject]


@dataclass(frozen=True, slots=True)
class JobLimits:
    """What a worker may use besides time on the clock; None: whatever the machine has. The kernel holds it to them."""

    memory_bytes: int | None = (
        None  # address space; not for workers with an accelerator, whose driver reserves far more than it uses
    )
    cpu_seconds: int | None = None
    open_files: int | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """What a worker may load before its job and keep for the next one: a function that gives this very process something to find there.

    Jobs that name the same may share a worker, one after the other, each in a copy of it that ends with the job.
    """

    function: str  # "module:function", as a job's
    arguments: JsonObject
    reads: tuple[Path, ...] = ()  # of `arguments`; a job that names them too finds them at the same place
    bytes: int = 0  # of memory, about


@dataclass(frozen=True, slots=True)
class Job:
    """One call of a worker function, and what of the machine it may see where workers run in a sandbox."""

    function: str  # "module:function" with the signature of WorkerFunction
    arguments: JsonObject
    folder: Path  # the job's own: job.json and the worker's logs lie here, and what the worker leaves in `left` (records.py)
    deadline_seconds: float  # wall time until the whole process group is killed
    threads: int = 1  # CPU threads of torch; two torch processes with two threads each stall one another
    reads: tuple[Path, ...] = ()  # files and folders that the arguments name
    writes: tuple[Path, ...] = ()  # folders that the arguments name; they are made when they are missing
    packages: tuple[str, ...] = ()  # top-level packages that its function imports beside ours and its own
    limits: JobLimits = JobLimits()
    accelerator: bool = False  # whether it may use the GPUs of this process
    devices: tuple[str, ...] = ()  # which of them, as CUDA_VISIBLE_DEVICES names them; none: as this process may
    holds: Held | None = None  # an executor that keeps workers may have it ready; others leave it to the function
    runs_programs: bool = False  # whether it starts sandboxes of its own, for strangers' programs


class Executor(Protocol):
    """Runs jobs away from the caller's process."""

    async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
        """The function's result; `report` is called on the loop with each progress object, in order.

        A result already in the job's folder, left by an earlier run of the same arguments, is returned without running again.
        Raises the GradientsError that the function raised, and JobFailed when the process crashed, ran out of memory or out of time.
        Cancelling the call kills the process group before it returns.
        """
        ...
