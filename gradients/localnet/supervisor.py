"""Starts the market's processes, starts a dead one again, and takes them all down at the end."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from gradients.config import environment_without
from gradients.errors import JobFailed
from gradients.log import get_logger

STOP_SECONDS = 10.0
CRASH_WINDOW_SECONDS = 60.0
CRASHES_ALLOWED = 8  # within the window, for each process
EXIT_FAILED = 1  # of a command that has said why; another try would end the same
PR_SET_PDEATHSIG = 1  # linux/prctl.h

log = get_logger("supervisor")


@dataclass
class Child:
    """One supervised process and when it died."""

    name: str
    arguments: tuple[str, ...]
    log_file: Path
    process: asyncio.subprocess.Process
    deaths: deque[float] = field(default_factory=deque)
    restarts: int = 0

    async def stop(self) -> None:
        """Ask the process to end, and make it end when it does not in time."""
        if self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


class Supervisor:
    """All processes of one market. Use as a context manager: leaving it leaves no process behind."""

    def __init__(self) -> None:
        self._children: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._failed: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        self._failed = asyncio.get_running_loop().create_future()
        return self

    async def __aexit__(self, *_: object) -> None:
        for keeper in self._keepers.values():
            keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)
        first, rest = self.children[:1], self.children[1:]  # all others talk to the first, so it goes last
        for group in (rest, first):
            await asyncio.gather(*(child.stop() for child in group))

    @property
    def children(self) -> Sequence[Child]:
        """Every process, in the order of starting."""
        return list(self._children.values())

    async def start(self, name: str, arguments: Sequence[str], *, log_file: Path) -> None:
        """Run `python -m <arguments>`; its standard output and error go to `log_file`."""
        child = Child(name, tuple(arguments), log_file, await _spawn(arguments, log_file))
        self._children[name] = child
        self._keepers[name] = asyncio.create_task(self._keep(child))

    async def failure(self) -> None:
        """Waits until a process dies again and again, and raises JobFailed then."""
        assert self._failed is not None  # noqa: S101 (for the type checker: set on entering)
        await asyncio.shield(self._failed)

    async def _keep(self, child: Child) -> None:
        """Start the process again whenever it ends by itself, until it has done so too often or says that it must not run."""
        while True:
            code = await child.process.wait()
            now = time.monotonic()
            child.deaths.append(now)
            while child.deaths and now - child.deaths[0] > CRASH_WINDOW_SECONDS:
                child.deaths.popleft()
            if len(child.deaths) > CRASHES_ALLOWED or code == EXIT_FAILED:
                break
            log.warning("process_restarted", name=child.name, exit_code=code)
            child.restarts += 1
            child.process = await _spawn(child.arguments, child.log_file)
        if self._failed is not None and not self._failed.done():
            tail = child.log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
            problem = f"{child.name} ended with exit code {code}: {' | '.join(tail)}"
            self._failed.set_exception(JobFailed(problem, fix=f"Read {child.log_file}"))


async def _spawn(arguments: Sequence[str], log_file: Path) -> asyncio.subprocess.Process:
    with log_file.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**environment_without("GRADIENTS_", "BT_"), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
            preexec_fn=_die_with_parent,
        )


def _die_with_parent() -> None:
    """A supervisor that is killed takes its children along, where the kernel can do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
