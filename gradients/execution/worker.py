"""The process that runs one job: `python -m gradients.execution.worker FOLDER PARENT_PID PROGRESS_FD`.

Started by ProcessExecutor with an environment of its own. It dies with its parent: by the kernel's word on Linux, by its own alarm
clock elsewhere. That covers this process only; a function that starts processes of its own must see to their end itself.
"""

from __future__ import annotations

import ctypes
import errno
import math
import os
import resource
import signal
import sys
import traceback
from collections.abc import Sequence
from io import BufferedWriter
from pathlib import Path

from gradients.domain.json import JsonObject, canonical
from gradients.errors import GradientsError
from gradients.execution.functions import resolve
from gradients.execution.lines import MAX_LINE_BYTES
from gradients.execution.records import ExitStatus, JobRecord, read_job, write_error, write_result

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_ALARM_GRACE_SECONDS = 60  # the parent kills at the deadline; the alarm is for when there is no parent any more


def main(arguments: Sequence[str]) -> int:
    """Run the job in the folder named first; the exit status is 0 when a result or a named error lies there."""
    folder, parent, progress = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    return work(read_job(folder), folder, parent=parent, progress=progress)


def work(job: JobRecord, folder: Path, *, parent: int, progress: int) -> ExitStatus:
    """Run the job in this process and leave its result or named error in `folder`; what the process's exit status should be."""
    _die_with(parent, deadline_seconds=job.deadline_seconds)
    _take_limits(job)
    try:
        with os.fdopen(progress, "wb") as stream:
            _run(job, folder, stream)
    except GradientsError as error:
        write_error(folder, error)
    except Exception as error:  # the one outer place: what the function did not name itself
        traceback.print_exc()
        return _status(error)
    return ExitStatus.DONE


def _run(job: JobRecord, folder: Path, stream: BufferedWriter) -> None:
    def report(progress: JsonObject) -> None:
        line = canonical(progress) + b"\n"
        if len(line) > MAX_LINE_BYTES:
            print(f"progress of {len(line)} bytes was not sent", file=sys.stderr)  # noqa: T201 (stderr.log is the log)
            return
        stream.write(line)
        stream.flush()

    result = resolve(job.function)(job.arguments, report)
    write_result(folder, job_digest=job.digest, result=result)


def _die_with(parent: int, *, deadline_seconds: float) -> None:
    signal.alarm(math.ceil(deadline_seconds) + _ALARM_GRACE_SECONDS)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _take_limits(job: JobRecord) -> None:
    for what, most in (
        (resource.RLIMIT_AS, job.memory_bytes),
        (resource.RLIMIT_CPU, job.cpu_seconds),
        (resource.RLIMIT_NOFILE, job.open_files),
        (resource.RLIMIT_CORE, 0),  # a core would hold rows that nobody may see
    ):
        if most is not None:
            hard = resource.getrlimit(what)[1]
            least = most if hard == resource.RLIM_INFINITY else min(most, hard)
            # the hard limit on processor time kills without a name, so it comes after the soft one, which says SIGXCPU
            resource.setrlimit(what, (least, hard if what == resource.RLIMIT_CPU else least))


def _status(error: Exception) -> ExitStatus:
    """What the exit status says; torch's error by its name, because this module must not import torch."""
    by_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(
        error
    )  # of a GPU, of the CPU
    if isinstance(error, MemoryError) or by_torch:
        return ExitStatus.OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return ExitStatus.DISK_FULL
    return ExitStatus.CRASHED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
