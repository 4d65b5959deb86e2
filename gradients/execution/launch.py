"""How a worker is started: the command, its environment, and what its exit status says; plainly or inside a sandbox."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import gradients
from gradients.execution.job import Job
from gradients.execution.records import JOB, LEFT
from gradients.sandbox.enclosure import Enclosure, devices
from gradients.sandbox.seccomp import filter_program

_WORKER = "gradients.execution.worker"
_FIRST_PROCESS = 1  # the parent of whatever a sandbox runs, as it is numbered inside
_SIGNALLED = 128  # a shell's way, and bwrap's, to say which signal ended its child


@dataclass(frozen=True, slots=True)
class Launch:
    """A command to start, with what it inherits."""

    command: Sequence[str]
    descriptors: tuple[int, ...]
    _told: IO[bytes] | None = None  # what bwrap says of the worker; None without a sandbox

    def status(self, returncode: int) -> int | None:
        """The worker's exit status by the started process's, negative for a signal; None when a sandbox was refused."""
        if self._told is None or returncode < 0:
            return returncode
        self._told.seek(0)
        lines = [json.loads(line) for line in self._told.read().splitlines()]
        said = next((int(line["exit-code"]) for line in lines if "exit-code" in line), None)
        return said if said is None or said <= _SIGNALLED else _SIGNALLED - said


@contextmanager
def launching(job: Job, *, progress: int, sandboxed: bool) -> Iterator[Launch]:
    """What starts the job's worker while the context lasts. Raises SetupError where there is no sandbox to start it in.

    Args:
        progress: the descriptor to which it reports.
    """
    folder = str(job.folder.absolute())
    if not sandboxed:
        yield Launch(_worker(folder, os.getpid(), progress), (progress,))
        return
    enclosure = Enclosure(
        reads=(job.folder / JOB, *job.reads),
        writes=(job.folder / LEFT, *job.writes),
        packages=("gradients", job.function.partition(".")[0], *job.packages),
        accelerator=job.accelerator and bool(devices()),
        runs_programs=job.runs_programs,
    )
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as calls:
        calls.write(filter_program(enclosure.filter()))
        calls.seek(0)
        command = [
            *enclosure.arguments(),
            *("--chdir", f"{folder}/{LEFT}", "--seccomp", str(calls.fileno()), "--json-status-fd", str(told.fileno())),
            *_worker(folder, _FIRST_PROCESS, progress),
        ]
        yield Launch(command, (progress, calls.fileno(), told.fileno()), told)


def environment(job: Job) -> dict[str, str]:
    """What every worker's environment says; the thread counts must stand there before torch is imported."""
    threads, own = str(job.threads), str(job.folder.absolute() / LEFT)
    return {
        "PATH": os.defpath,
        "HOME": own,
        "TMPDIR": own,
        "USER": "nobody",  # for libraries that ask who they are where there is no list of users
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(Path(gradients.__file__).parents[1]),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "RAYON_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        **({"CUDA_VISIBLE_DEVICES": ",".join(job.devices)} if job.devices else {}),
    }


def _worker(folder: str, parent: int, progress: int) -> list[str]:
    return [sys.executable, "-P", "-m", _WORKER, folder, str(parent), str(progress)]
