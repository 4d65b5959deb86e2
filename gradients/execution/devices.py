"""Who may use which GPU, or which share of the CPU, and for how long: leases of devices, fair between tasks.

Covers: a device is never leased twice; customers go before synthetic work, then whoever has fewest devices, then whoever asked first; who
wants several is not overtaken for ever, and who wants more than there are is refused at once. Does not cover: work that asks for no lease.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gradients.errors import OperatorError

CPU = "cpu"
_USABLE = 0.9  # of a device's memory: the rest is the driver's or the system's, and lost between blocks
_CPU_SLOT_BYTES = 3 * 1024**3  # of memory for each share of the CPU


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or a share of the CPU."""

    name: str  # as CUDA_VISIBLE_DEVICES names it, or "cpu"
    memory_bytes: int | None = None  # that its jobs may use; None where nobody has said

    @property
    def visible(self) -> tuple[str, ...]:
        """What `Job.devices` says of it."""
        return () if self.name == CPU else (self.name,)


@dataclass(eq=False)
class _Waiting:
    task: str
    count: int
    synthetic: bool
    arrived: int
    granted: asyncio.Future[tuple[Device, ...]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Devices:
    """All devices that jobs may use."""

    def __init__(self, look: Callable[[], Awaitable[Sequence[Device]]], *, again_seconds: float | None = None) -> None:
        """Args:
        look: finds them; asked at the first lease.
        again_seconds: how long that holds, where devices come and go; for ever without it.
        """
        self._look = look
        self._again_seconds = again_seconds
        self._looked = -math.inf
        self._looking = asyncio.Lock()
        self._all: tuple[Device, ...] = ()
        self._free: list[Device] = []
        self._waiting: list[_Waiting] = []
        self._held = Counter[str]()
        self._gone = Counter[Device]()  # leased, and not there any more
        self._arrivals = 0

    async def all(self) -> tuple[Device, ...]:
        """The devices, free or not; at least one."""
        async with self._looking:
            now = asyncio.get_running_loop().time()
            if not self._all or (self._again_seconds is not None and now - self._looked > self._again_seconds):
                self._change(tuple(await self._look()) or (Device(CPU),))
                self._looked = now
        return self._all

    def _change(self, found: tuple[Device, ...]) -> None:
        """Give out what is new, and no longer what is gone; a lease on that lasts as long as its work."""
        new, gone = Counter(found) - Counter(self._all), Counter(self._all) - Counter(found)
        self._all = found
        self._free = [device for device in self._free if not _take_one(gone, device)] + list(new.elements())
        self._gone += gone
        for waiting in [each for each in self._waiting if each.count > len(found)]:
            self._waiting.remove(waiting)
            waiting.granted.set_exception(self._too_few(waiting.count))
        self._grant()

    def _too_few(self, count: int) -> OperatorError:
        return OperatorError(f"{count} devices were asked for, and there are {len(self._all)}", code="devices_too_few")

    async def needed(self, size_bytes: int) -> int:
        """How many devices a model of this size takes, working space included. Raises OperatorError when there are not so many."""
        devices = await self.all()
        memory = min((device.memory_bytes or math.inf for device in devices), default=math.inf)
        count = max(1, math.ceil(size_bytes / (_USABLE * memory)))
        if count > len(devices):
            raise OperatorError(
                f"The model needs {size_bytes / 2**30:.1f} GiB, and {len(devices)} devices with "
                f"{memory * _USABLE / 2**30:.1f} GiB of use each have less together",
                code="devices_too_few",
                fix="Measure it on a machine with more memory, or with more or larger GPUs",
            )
        return count

    @asynccontextmanager
    async def lease(self, task: str, *, count: int = 1, synthetic: bool = False) -> AsyncIterator[tuple[Device, ...]]:
        """Devices that are the caller's while the context lasts. Raises OperatorError for more than there are.

        Args:
            task: among those who wait, the task with fewest devices goes first.
            synthetic: whether nobody pays for it; customers go before.
        """
        if count > len(await self.all()):
            raise self._too_few(count)
        self._arrivals += 1
        waiting = _Waiting(task, count, synthetic, self._arrivals)
        self._waiting.append(waiting)
        self._grant()
        try:
            leased = await waiting.granted
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            elif waiting.granted.done() and not waiting.granted.cancelled() and not waiting.granted.exception():
                self._take_back(task, waiting.granted.result())
            self._grant()
            raise
        try:
            yield leased
        finally:
            self._take_back(task, leased)
            self._grant()

    def _grant(self) -> None:
        """Give free devices to whoever is next; who cannot have enough yet is waited for."""
        while self._waiting:
            first = min(self._waiting, key=lambda each: (each.synthetic, self._held[each.task], each.arrived))
            if first.count > len(self._free):
                return
            self._waiting.remove(first)
            leased, self._free = tuple(self._free[: first.count]), self._free[first.count :]
            self._held[first.task] += first.count
            first.granted.set_result(leased)

    def _take_back(self, task: str, leased: Sequence[Device]) -> None:
        self._free += [device for device in leased if not _take_one(self._gone, device)]
        self._held[task] -= len(leased)
        if not self._held[task]:
            del self._held[task]


def _take_one(some: Counter[Device], device: Device) -> bool:
    """Whether there was one such device to take away."""
    if some[device] <= 0:
        return False
    some[device] -= 1
    return True


def cpu_shares(threads: int) -> list[Device]:
    """The CPU in shares of so many threads, as many as its cores and this machine's memory allow."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    shares = max(1, min(cores // threads, memory // _CPU_SLOT_BYTES))
    return [Device(CPU, memory // shares)] * shares


def stored_bytes(folder: Path) -> int:
    """The size of a model's weights on disk."""
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
