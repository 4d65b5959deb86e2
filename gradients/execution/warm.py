"""Keeps workers that have loaded what jobs share, so that the next job on the same base starts at once.

Each kept worker is itself a job of ProcessExecutor's (`serving.py`): it has the same sandbox, dies as others die, and runs one job at once.
Which jobs may share one stands in `Job.holds`, with what decides its sandbox and its devices. Idle ones are ended by time and by want of
memory.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from gradients.domain.json import JsonObject, canonical
from gradients.errors import JobFailed
from gradients.execution.endings import Ending
from gradients.execution.job import Held, Job, ReportProgress
from gradients.execution.process import ProcessExecutor
from gradients.execution.records import ExitStatus, finished_result, prepare_folder, read_error
from gradients.execution.staging import COMMANDS, Staging

_Found = TypeVar("_Found")
_SERVE = "gradients.execution.serving:serve"
_LIFETIME_SECONDS = 30 * 86_400.0  # of a worker, whatever it does
_SPARE_BYTES = 2 * 1024**3  # of this machine's memory, for everything else
_FROM_START = 1.5  # what loading takes, as a multiple of what is held afterwards


@dataclass
class _Worker:
    """A worker that has loaded `job.holds`, or is about to."""

    plain: ProcessExecutor
    job: Job  # that it was started for
    staging: Staging
    sandboxed: bool
    idle_since: float = 0.0
    _running: asyncio.Task[JsonObject] | None = None
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    _told: asyncio.Queue[JsonObject] = field(default_factory=asyncio.Queue)
    _commands: int = -1
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def alive(self) -> bool:
        """Whether it can take another job."""
        return self._running is not None and not self._running.done()

    async def start(self) -> None:
        """Raises what loading raises: the GradientsError of the function, or JobFailed."""
        held = self._held()
        for folder in (self.staging.given, self.staging.taken):
            folder.mkdir(parents=True)
        pipe = self.staging.given / COMMANDS
        os.mkfifo(pipe)
        self._commands = os.open(pipe, os.O_RDWR)  # for reading too, so that it can be opened before the worker does
        pipe.chmod(0o400)  # a job may not write to it
        serving = Job(
            function=_SERVE,
            arguments={
                "function": held.function,
                "arguments": held.arguments,
                "folder": str(self.staging.folder),
                "sandboxed": self.sandboxed,
            },
            folder=self.staging.folder / "job",
            deadline_seconds=_LIFETIME_SECONDS,
            threads=self.job.threads,
            reads=(*held.reads, self.staging.given),
            writes=(self.staging.taken,),
            packages=("gradients", self.job.function.partition(".")[0], held.function.partition(".")[0]),
            accelerator=self.job.accelerator,
            runs_programs=self.job.runs_programs,
            devices=self.job.devices,
        )
        self._running = asyncio.create_task(self.plain.run(serving, report=self._hear))
        await self._first(self._ready.wait())

    async def run(self, job: Job, report: ReportProgress) -> Ending:
        """Run a job and bring back what it left. However the call ends, nothing of the job runs on."""
        name = str(next(self._numbers))
        status, in_time = -int(signal.SIGKILL), True
        await asyncio.to_thread(self.staging.put, job, name)
        try:
            async with asyncio.timeout(job.deadline_seconds):
                os.write(self._commands, f"{name}\n".encode())
                status = await self._first(self._follow(name, report))
        except TimeoutError:
            in_time = False
            await self.end()
        except JobFailed:  # the worker ended with the job
            await self.end()
        except BaseException:
            await self.end()
            raise
        finally:
            said = await asyncio.shield(asyncio.to_thread(self.staging.collect, job, name))
            try:
                await asyncio.shield(asyncio.to_thread(self.staging.clear))
            except (OSError, RecursionError):  # whatever the job left, the next one shall not find it
                await self.end()
        return Ending(status, in_time=in_time, stderr=said)

    async def end(self) -> None:
        """Kill it with everything that it runs."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        if self._commands >= 0:
            os.close(self._commands)
            self._commands = -1

    async def remove(self) -> None:
        """End it, and leave nothing of it on the disk."""
        await self.end()
        await asyncio.to_thread(shutil.rmtree, self.staging.folder, ignore_errors=True)

    def _held(self) -> Held:
        assert self.job.holds is not None  # noqa: S101 (who starts one has looked)
        return self.job.holds

    def _hear(self, told: JsonObject) -> None:
        if told.get("ready"):
            self._ready.set()
        else:
            self._told.put_nowait(told)

    async def _follow(self, name: str, report: ReportProgress) -> int:
        """The job's exit status, once it has ended."""
        while True:
            said = await self._told.get()
            told, status = said.get("told"), said.get("status")
            if said.get("job") != name:
                continue
            if isinstance(told, Mapping):
                report(told)
            elif isinstance(status, int):
                return status

    async def _first(self, waiting: Coroutine[None, None, _Found]) -> _Found:
        """What `waiting` comes to, unless the worker ends before; then its error is raised."""
        assert self._running is not None  # noqa: S101 (it has been started)
        wanted = asyncio.create_task(waiting)
        try:
            await asyncio.wait({wanted, self._running}, return_when=asyncio.FIRST_COMPLETED)
            if wanted.done():
                return wanted.result()
            self._running.result()
            raise JobFailed(f"The worker of {self.job.function} ended", code="job_killed")
        finally:
            wanted.cancel()


class WarmExecutor:
    """Runs jobs that hold something in workers that are kept, and the others as `plain` does. Call it from a loop on the main thread."""

    def __init__(
        self, plain: ProcessExecutor, folder: Path, *, sandboxed: bool, idle_seconds: float = 300.0, most_idle: int = 8
    ) -> None:
        """Args:
        folder: of the workers, emptied at the start; on the file system of the jobs' folders, so that files can be linked.
        sandboxed: whether `plain` starts its workers in a sandbox.
        idle_seconds: how long a worker without a job is kept.
        most_idle: how many of them are.
        """
        self._plain = plain
        self._folder = folder
        self._sandboxed = sandboxed
        self._idle_seconds, self._most_idle = idle_seconds, most_idle
        self._idle: dict[bytes, list[_Worker]] = {}
        self._sweeping: asyncio.Task[None] | None = None
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed

    async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
        if job.holds is None:
            return await self._plain.run(job, report=report)
        finished = await asyncio.to_thread(finished_result, job)
        if finished is not None:
            return finished
        await asyncio.to_thread(prepare_folder, job)
        worker = await self._worker(job, _key(job))
        try:
            ending = await worker.run(job, report)
        finally:
            await self._give_back(worker, _key(job))
        result = await asyncio.to_thread(finished_result, job)
        if result is not None:
            return result
        named = await asyncio.to_thread(read_error, job.folder) if ending.status == ExitStatus.DONE else None
        raise named or ending.failure(job)

    async def close(self) -> None:
        """End every idle worker."""
        for worker in [each for some in self._idle.values() for each in some]:
            await worker.remove()
        self._idle.clear()

    async def _worker(self, job: Job, key: bytes) -> _Worker:
        """An idle worker that holds what the job needs, or a new one."""
        while idle := self._idle.get(key, []):
            worker = idle.pop()
            if worker.alive:
                return worker
            await worker.remove()
        assert job.holds is not None  # noqa: S101 (`run` has looked)
        await self._make_room(int(job.holds.bytes * _FROM_START) + _SPARE_BYTES)
        self._folder.mkdir(parents=True, exist_ok=True)
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._folder.absolute()))
        worker = _Worker(self._plain, job, Staging(folder), sandboxed=self._sandboxed)
        try:
            await worker.start()
        except BaseException:
            await worker.remove()
            raise
        return worker

    async def _give_back(self, worker: _Worker, key: bytes) -> None:
        if not worker.alive:
            await worker.remove()
            return
        worker.idle_since = asyncio.get_running_loop().time()
        self._idle.setdefault(key, []).append(worker)
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._sweep())

    async def _sweep(self) -> None:
        """End workers that have been idle for long, and the oldest of too many, until there are none."""
        now = asyncio.get_running_loop().time
        while idle := self._by_age():
            if len(idle) > self._most_idle or now() - idle[0].idle_since >= self._idle_seconds:
                await self._end_oldest()
            else:
                await asyncio.sleep(self._idle_seconds - (now() - idle[0].idle_since))

    async def _make_room(self, wanted_bytes: int) -> None:
        """End idle workers, the oldest first, until so much memory is free or there are none."""
        while self._by_age() and _available_bytes() < wanted_bytes:
            await self._end_oldest()

    async def _end_oldest(self) -> None:
        oldest = self._by_age()[0]
        for some in self._idle.values():
            if oldest in some:
                some.remove(oldest)
        await oldest.remove()

    def _by_age(self) -> list[_Worker]:
        return sorted((each for some in self._idle.values() for each in some), key=lambda each: each.idle_since)


def _key(job: Job) -> bytes:
    """What two jobs must have in common to share a worker."""
    held = job.holds
    return canonical(
        {
            "held": None if held is None else [held.function, held.arguments, list(map(str, held.reads))],
            "package": job.function.partition(".")[0],
            "packages": list(job.packages),
            "threads": job.threads,
            "accelerator": job.accelerator,
            "runs_programs": job.runs_programs,
            "devices": list(job.devices),
        }
    )


def _available_bytes() -> int:
    """Memory that this machine could give out now; a very large number where it does not say."""
    with suppress(OSError), Path("/proc/meminfo").open() as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 2**63
