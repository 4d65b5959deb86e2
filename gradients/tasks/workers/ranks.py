"""A training job in several processes of one machine, one for each GPU: started, listened to, and ended when one of them fails.

`python -m gradients.tasks.workers.ranks` is such a process. They die with their starter, by the kernel's word on Linux; the executor ends
its worker's whole group in any case.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, cast

from pydantic import BaseModel

from gradients.domain.json import JsonObject, canonical
from gradients.errors import GradientsError, JobFailed
from gradients.files.whole import write_bytes, write_text
from gradients.ml.device import is_out_of_memory
from gradients.ml.spread import Place, join, leave
from gradients.tasks.workers.devices import find

_LOOK_SECONDS = 0.2
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}


class Trouble(BaseModel):
    """What a process failed with, in words for whoever asked for the job."""

    message: str
    code: str
    fix: str | None = None


def run_in_ranks(
    function: str, arguments: JsonObject, *, processes: int, folder: Path, report: Callable[[JsonObject], None]
) -> None:
    """Run a job in so many processes. Raises JobFailed as the first process that failed says.

    Args:
        function: "module:name" of what each of them calls with the arguments and its own way to report.
        folder: where they meet; each leaves there what it failed with.
    """
    devices = cast("list[tuple[str, int]]", find({}, report)["devices"])
    if devices and len(devices) < processes:
        raise JobFailed(
            f"The plan wants {processes} GPUs, and {len(devices)} are here",
            code="devices_too_few",
            fix="Plan for the GPUs that workers see (CUDA_VISIBLE_DEVICES)",
        )
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    write_bytes(folder / "arguments.json", canonical(arguments))
    with ExitStack() as running:
        started: list[subprocess.Popen[bytes]] = []
        listening: list[threading.Thread] = []
        running.callback(_end, started, listening)
        for rank in range(processes):
            own = {"CUDA_VISIBLE_DEVICES": devices[rank][0]} if devices else {}
            command = [sys.executable, "-P", "-m", __spec__.name, function, str(folder), str(rank), str(processes)]
            started.append(
                subprocess.Popen(  # noqa: S603 (our own module)
                    [*command, str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE if rank == 0 else sys.stderr.fileno() if _has_stderr() else None,
                    env={**os.environ, **_LOOPBACK, **own},
                )
            )
        listening.append(threading.Thread(target=_pass_on, args=(started[0].stdout, report), daemon=True))
        listening[0].start()
        failed = _first_to_fail(started)
        if failed is not None:
            raise _why(folder, failed, started[failed].returncode)


def _has_stderr() -> bool:
    try:
        sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    return True


def _pass_on(lines: IO[bytes] | None, report: Callable[[JsonObject], None]) -> None:
    for line in lines or ():
        with suppress(ValueError):  # whatever a library prints
            if isinstance(progress := json.loads(line), dict):
                report(progress)


def _first_to_fail(started: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """The rank of a process that has failed, or None once all have done their part."""
    while True:
        ended = [process.poll() for process in started]
        for rank, status in enumerate(ended):
            if status:
                return rank
        if all(status == 0 for status in ended):
            return None
        time.sleep(_LOOK_SECONDS)


def _end(started: Sequence[subprocess.Popen[bytes]], listening: Sequence[threading.Thread]) -> None:
    for process in started:
        process.kill()
        process.wait()
    for thread in listening:
        thread.join()  # what was said before the end is passed on
    for process in started:
        if process.stdout is not None:
            process.stdout.close()


def _why(folder: Path, rank: int, status: int) -> JobFailed:
    """As the process said itself; one that was killed says nothing, and another that missed it may say too much."""
    try:
        trouble = Trouble.model_validate_json((folder / f"trouble-{rank}.json").read_bytes())
    except (OSError, ValueError):
        killed = status == -signal.SIGKILL
        return JobFailed(
            f"Process {rank} of the training ended with status {status}",
            code="job_killed" if killed else "job_crashed",
            fix="More memory, or less at once" if killed else "See stderr.log of the job",
        )
    return JobFailed(trouble.message, code=trouble.code, fix=trouble.fix)


def main(arguments: Sequence[str]) -> int:
    """Be one of the processes."""
    function, folder, rank, processes, parent = arguments
    _die_with(int(parent))
    told = Path(folder)

    def report(progress: JsonObject) -> None:
        sys.stdout.buffer.write(canonical(progress) + b"\n")
        sys.stdout.buffer.flush()

    try:
        join(Place(int(rank), int(processes)), told / "meeting")
        module, _, name = function.partition(":")
        work = getattr(importlib.import_module(module), name)
        work(json.loads((told / "arguments.json").read_bytes()), report)
        leave()
    except GradientsError as error:
        _leave_trouble(told, rank, Trouble(message=error.message, code=error.code, fix=error.fix))
    except Exception as error:  # the one outer place: what the work did not name itself
        traceback.print_exc()
        if is_out_of_memory(error):
            fix = "A smaller batch or more GPUs"
            _leave_trouble(told, rank, Trouble(message=str(error), code="out_of_memory", fix=fix))
    else:
        return 0
    sys.stderr.flush()
    os._exit(1)  # the others may wait for this one in a step, and libraries for the others


def _leave_trouble(folder: Path, rank: str, trouble: Trouble) -> None:
    write_text(folder / f"trouble-{rank}.json", trouble.model_dump_json())


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
