"""A task's curves in TensorBoard, trackio or wandb: one process beside each training, told what the trainer reports.

Covers: a library that is slow, hangs, crashes or takes memory costs the training nothing but its curves, and one warning. Does not cover: a
disk that curves fill; they are kilobytes a task.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from gradients.config import tracking_environment
from gradients.domain.json import JsonObject, canonical
from gradients.errors import SetupError
from gradients.extras import how_to_install
from gradients.log import get_logger
from miner.settings import MinerSettings, TrackingSettings
from miner.tracking.writers import Begin

MOST_WAITING_BYTES = 1 << 20  # that the library has not taken yet; what comes meanwhile is left out
CLOSING_SECONDS = 120.0  # for a library to bring its last points to their place
STOPPING_SECONDS = 2.0  # the same when the miner stops
_TOLD_BYTES = 4_000  # of what the library said last
_PROCESS = "miner.tracking.process"

log = get_logger("tracking")


@dataclass(frozen=True, slots=True)
class _Child:
    process: Process
    said: IO[bytes]
    closed: asyncio.Event


@dataclass(frozen=True, slots=True)
class Tracking:
    """What writes curves, if any."""

    settings: TrackingSettings = field(default_factory=TrackingSettings)
    folder: Path = Path()
    children: dict[str, _Child] = field(default_factory=dict)  # by task
    watches: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    def by(cls, settings: MinerSettings) -> Tracking:
        """Raises SetupError when the library is not installed."""
        require(settings.tracking)
        return cls(settings.tracking, settings.tracking.folder or settings.folder / "tracking")

    @contextlib.asynccontextmanager
    async def run(self, task_id: str, about: JsonObject) -> AsyncIterator[None]:
        """Curves of what the body trains. The body never waits for them, and never fails by them."""
        if self.settings.kind != "none" and task_id not in self.children:
            try:
                self.children[task_id] = await self._started(task_id, about)
            except OSError as error:
                log.warning("tracking_failed", task=task_id, kind=self.settings.kind, problem=str(error))
        try:
            yield
        finally:
            if (child := self.children.pop(task_id, None)) is not None:
                child.closed.set()

    def tell(self, task_id: str, progress: JsonObject) -> None:
        """Pass a trainer's report on, unless the library is far behind."""
        child = self.children.get(task_id)
        stream = child.process.stdin if child else None
        if stream is None or stream.is_closing() or stream.transport.get_write_buffer_size() > MOST_WAITING_BYTES:
            return
        stream.write(canonical(progress) + b"\n")

    async def _started(self, task_id: str, about: JsonObject) -> _Child:
        begin = Begin.model_validate(
            {
                **self.settings.model_dump(include={"kind", "project", "online"}),
                "folder": self.folder,
                "task_id": task_id,
                "about": about,
            }
        )
        said = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `_watch`)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", _PROCESS),
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=said,
            start_new_session=True,  # Ctrl-C is the miner's, which ends this one in good order
            env=tracking_environment(self.folder, online=self.settings.online),
        )
        assert process.stdin is not None  # noqa: S101 (for the type checker: it was asked for)
        process.stdin.write(begin.model_dump_json().encode() + b"\n")
        child = _Child(process, said, asyncio.Event())
        watch = asyncio.create_task(self._watch(task_id, child))
        self.watches.add(watch)
        watch.add_done_callback(self.watches.discard)
        return child

    async def _watch(self, task_id: str, child: _Child) -> None:
        """See a tracker to its end, and say once when that was not a good one."""
        process, problem = child.process, ""
        with child.said:
            try:
                await _closed_or_dead(child)
                async with asyncio.timeout(CLOSING_SECONDS):
                    code = await process.wait()
                problem = f"exit code {code}: {await asyncio.to_thread(_last_line, child.said)}" if code else ""
            except TimeoutError:
                problem = f"it did not end within {CLOSING_SECONDS:g} s"
            except asyncio.CancelledError:  # the miner stops
                _close(process)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), STOPPING_SECONDS)
                raise
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # what it has started, too
                await process.wait()
        if problem:
            log.warning("tracking_failed", task=task_id, kind=self.settings.kind, problem=problem)


async def _closed_or_dead(child: _Child) -> None:
    """Wait until the run is over, or its tracker; then nothing more is written."""
    waits = [asyncio.create_task(child.closed.wait()), asyncio.create_task(child.process.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        _close(child.process)


def _close(process: Process) -> None:
    if process.stdin is not None:
        process.stdin.close()


def _last_line(said: IO[bytes]) -> str:
    said.seek(max(said.seek(0, os.SEEK_END) - _TOLD_BYTES, 0))
    lines = said.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def require(settings: TrackingSettings) -> None:
    """Raises SetupError when the library that the settings name is not installed."""
    kind = settings.kind
    if kind != "none" and find_spec(kind) is None:
        how = "pip install trackio" if kind == "trackio" else how_to_install(kind)
        raise SetupError(
            f"[tracking] kind = {kind!r} needs the Python module {kind}",
            code="tracker_missing",
            fix=f"{how}, or leave [tracking] out",
        )
