"""How a worker process ended, and the error that this is."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from gradients.errors import DiskFull, GradientsError, JobFailed
from gradients.execution.job import Job
from gradients.execution.records import ExitStatus
from gradients.sandbox.trial import refusal

_STDERR_LINES = 12
BREAKS = frozenset(
    {signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
)  # of a program that went wrong


@dataclass(frozen=True, slots=True)
class Ending:
    """How a worker process ended."""

    status: (
        int | None
    )  # negative: the number of the signal that killed it; None: the sandbox was refused and nothing was run
    in_time: bool
    stderr: bytes  # its last bytes

    def failure(self, job: Job) -> GradientsError:
        """The error of a job that left neither a result nor a named error."""
        last = "\n".join(self.stderr.decode(errors="replace").splitlines()[-_STDERR_LINES:])
        if self.status is None and self.in_time:
            return refusal(last)
        said = f"; it said last:\n{last}" if last else ""
        fix = f"See {job.folder / 'stderr.log'}"
        if self.in_time and self.status == ExitStatus.DISK_FULL:
            return DiskFull(f"{job.function} found no room left on the device{said}", fix=f"Free some space. {fix}")
        code, what = _how(self.status or 0, job, in_time=self.in_time)
        return JobFailed(f"{job.function} {what}{said}", code=code, fix=fix)


def _how(status: int, job: Job, *, in_time: bool) -> tuple[str, str]:
    """A code and a clause for how the worker ended."""
    if not in_time:
        return "job_deadline", f"was killed at its deadline of {job.deadline_seconds:g} s"
    if status == ExitStatus.OUT_OF_MEMORY:
        return "out_of_memory", "ran out of memory"
    if status == -signal.SIGXCPU:
        return "job_slow", f"took more than {job.limits.cpu_seconds} s of processor time"
    if status == -signal.SIGKILL:
        return "job_killed", "was killed by SIGKILL, which is how the kernel answers when memory runs out"
    if -status in BREAKS:
        return "job_aborted", f"broke off with {signal.Signals(-status).name}"
    if status < 0:
        return "job_killed", f"was killed by {signal.Signals(-status).name}"
    return "job_crashed", f"ended with status {status}"
