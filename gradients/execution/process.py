"""Runs each job in a process of its own: a fresh interpreter, a minimal environment, a deadline that holds; in a sandbox where asked.

Covers: crashes, memory and hangs of the job; output of any size; our own death by SIGKILL; in the sandbox also what the job may read, write
and reach (gradients/sandbox/enclosure.py). Does not cover: without the sandbox, processes that a job starts outside its process group.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import IO, NamedTuple

from gradients.domain.json import JsonObject
from gradients.execution.endings import Ending
from gradients.execution.job import Job, ReportProgress
from gradients.execution.launch import Launch, environment, launching
from gradients.execution.lines import CappedLog, LineSplitter
from gradients.execution.records import LEFT, ExitStatus, finished_result, prepare_folder, read_error

_CHUNK_BYTES = 64 * 1024


class ProcessExecutor:
    """Runs jobs as child processes of this one. Call it from a loop on the main thread: workers die with the thread that started them."""

    def __init__(
        self, *, environment: Mapping[str, str] | None = None, grace_seconds: float = 5.0, sandboxed: bool = False
    ) -> None:
        """Args:
        environment: what workers see besides what is set here, such as CUDA_VISIBLE_DEVICES; never secrets.
        grace_seconds: between asking a process group to end and killing it; a sandbox ends at once.
        sandboxed: whether each worker sees what its job names and nothing else of this machine; without it, whatever the user may.
        """
        self._environment = dict(environment or {})
        self._grace_seconds = grace_seconds
        self._sandboxed = sandboxed

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
        raise named or ending.failure(job)

    async def _supervise(self, job: Job, report: ReportProgress) -> Ending:
        """Start the worker, pass on what it says, and see it end."""
        out, err = CappedLog(job.folder / "stdout.log"), CappedLog(job.folder / "stderr.log")
        async with _pipe() as progress, _pipe() as stdout, _pipe() as stderr:
            with launching(job, progress=progress.writer.fileno(), sandboxed=self._sandboxed) as launch:
                process = await self._start(job, launch, stdout=stdout.writer, stderr=stderr.writer)
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
                return Ending(launch.status(process.returncode or 0), in_time=in_time, stderr=err.tail())

    async def _start(self, job: Job, launch: Launch, *, stdout: IO[bytes], stderr: IO[bytes]) -> Process:
        return await asyncio.create_subprocess_exec(
            *launch.command,
            stdin=DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=launch.descriptors,
            start_new_session=True,
            cwd=job.folder.absolute() / LEFT,
            env=self._environment | environment(job),
        )


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
            with suppress(
                ValueError, RecursionError
            ):  # a worker that strangers' bytes have taken over may say anything
                if isinstance(progress := json.loads(line), dict):
                    report(progress)


async def _capture(stream: asyncio.StreamReader, log: CappedLog) -> None:
    while chunk := await stream.read(_CHUNK_BYTES):
        await asyncio.to_thread(log.write, chunk)
    await asyncio.to_thread(log.close)
