"""Runs each job in a process of its own: a fresh interpreter, a minimal environment, a deadline that holds.

Covers: crashes, memory and hangs of the job; output of any size; our own death by SIGKILL. Does not cover: what the job may read, write or
reach over the network (a sandbox's part), nor processes that the job starts outside its process group.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import gradients
from gradients.domain.json import JsonObject
from gradients.errors import DiskFull, GradientsError, JobFailed
from gradients.execution.job import Job, ReportProgress
from gradients.execution.lines import CappedLog, LineSplitter
from gradients.execution.records import ExitStatus, finished_result, prepare_folder, read_error

_WORKER = "gradients.execution.worker"
_CHUNK_BYTES = 64 * 1024
_STDERR_LINES = 12


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a worker process ended."""

    status: int  # negative: the number of the signal that killed it
    in_time: bool
    stderr: bytes  # its last bytes


class ProcessExecutor:
    """Runs jobs as child processes of this one. Call it from a loop on the main thread: workers die with the thread that started them."""

    def __init__(self, *, environment: Mapping[str, str] | None = None, grace_seconds: float = 5.0) -> None:
        """Args:
        environment: what workers see besides what is set here, such as CUDA_VISIBLE_DEVICES; never secrets.
        grace_seconds: between asking a process group to end and killing it.
        """
        self._environment = dict(environment or {})
        self._grace_seconds = grace_seconds

    async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
        finished = await asyncio.to_thread(finished_result, job)
        if finished is not None:
            return finished
        await asyncio.to_thread(prepare_folder, job)
        ending = await self._supervise(job, report)
        result = await asyncio.to_thread(finished_result, job)
        if result is not None:
            return result
        named = await asyncio.to_thread(read_error, job.folder) if ending.status == ExitStatus.DONE else None
        raise named or _failure(job, ending)

    async def _supervise(self, job: Job, report: ReportProgress) -> _Ending:
        """Start the worker, pass on what it says, and see it end."""
        out, err = CappedLog(job.folder / "stdout.log"), CappedLog(job.folder / "stderr.log")
        async with _pipe() as progress, _pipe() as stdout, _pipe() as stderr:
            process = await self._start(job, progress=progress.writer, stdout=stdout.writer, stderr=stderr.writer)
            for pipe in (progress, stdout, stderr):
                pipe.writer.close()  # the worker has its own copies; ours would keep the streams open for ever
            try:
                async with asyncio.TaskGroup() as readers:
                    readers.create_task(_forward(progress.reader, report))
                    readers.create_task(_capture(stdout.reader, out))
                    readers.create_task(_capture(stderr.reader, err))
                    in_time = await _wait(process, job.deadline_seconds, self._grace_seconds)
            except BaseExceptionGroup as group:  # what `report` raised belongs to the caller, as it was
                raise group.exceptions[0] from None
        return _Ending(status=process.returncode or 0, in_time=in_time, stderr=err.tail())

    async def _start(self, job: Job, *, progress: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]) -> Process:
        folder, sending = str(job.folder.absolute()), progress.fileno()
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", _WORKER, folder, str(os.getpid()), str(sending)),
            stdin=DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(sending,),
            start_new_session=True,
            cwd=folder,
            env=self._environment | _fixed_environment(job),
        )


def _fixed_environment(job: Job) -> dict[str, str]:
    """What every worker's environment says; the thread counts must stand there before torch is imported."""
    threads = str(job.threads)
    return {
        "PATH": os.defpath,
        "HOME": str(job.folder.absolute()),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(Path(gradients.__file__).parents[1]),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "RAYON_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }


async def _wait(process: Process, deadline_seconds: float, grace_seconds: float) -> bool:
    """Whether the process ended by itself in time. However it ended, nothing of its group is left afterwards."""
    try:
        async with asyncio.timeout(deadline_seconds):
            await process.wait()
    except TimeoutError:
        return False
    else:
        return True
    finally:
        try:
            if process.returncode is None:
                _signal_group(process, signal.SIGTERM)
                with suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), grace_seconds)
        finally:
            _signal_group(process, signal.SIGKILL)
            await process.wait()


def _signal_group(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # all of them are gone already
        os.killpg(process.pid, number)


class _Pipe(NamedTuple):
    reader: asyncio.StreamReader
    writer: IO[bytes]


@asynccontextmanager
async def _pipe() -> AsyncIterator[_Pipe]:
    """A pipe whose reading end is a stream here and whose writing end is for the child."""
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    with os.fdopen(writing, "wb") as writer:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb")
        )
        try:
            yield _Pipe(reader, writer)
        finally:
            transport.close()


async def _forward(stream: asyncio.StreamReader, report: ReportProgress) -> None:
    lines = LineSplitter()
    while chunk := await stream.read(_CHUNK_BYTES):
        for line in lines.feed(chunk):
            report(json.loads(line))


async def _capture(stream: asyncio.StreamReader, log: CappedLog) -> None:
    while chunk := await stream.read(_CHUNK_BYTES):
        await asyncio.to_thread(log.write, chunk)
    await asyncio.to_thread(log.close)


def _failure(job: Job, ending: _Ending) -> GradientsError:
    last = "\n".join(ending.stderr.decode(errors="replace").splitlines()[-_STDERR_LINES:])
    said = f"; it said last:\n{last}" if last else ""
    fix = f"See {job.folder / 'stderr.log'}"
    if ending.in_time and ending.status == ExitStatus.DISK_FULL:
        return DiskFull(f"{job.function} found no room left on the device{said}", fix=f"Free some space. {fix}")
    code, what = _how(ending, job)
    return JobFailed(f"{job.function} {what}{said}", code=code, fix=fix)


def _how(ending: _Ending, job: Job) -> tuple[str, str]:
    """A code and a clause for how the worker ended."""
    if not ending.in_time:
        return "job_deadline", f"was killed at its deadline of {job.deadline_seconds:g} s"
    if ending.status == ExitStatus.OUT_OF_MEMORY:
        return "out_of_memory", "ran out of memory"
    if ending.status == -signal.SIGKILL:
        return "job_killed", "was killed by SIGKILL, which is how the kernel answers when memory runs out"
    if ending.status < 0:
        return "job_killed", f"was killed by {signal.Signals(-ending.status).name}"
    return "job_crashed", f"ended with status {ending.status}"
