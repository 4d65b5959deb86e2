"""Leases of devices: never twice, fair between tasks, and no waiting for what can never be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from gradients.errors import OperatorError
from gradients.execution.devices import CPU, Device, Devices, cpu_shares

GIBIBYTE = 1024**3


def devices(count: int, memory_gibibytes: int = 80) -> Devices:
    async def look() -> Sequence[Device]:
        return [Device(str(number), memory_gibibytes * GIBIBYTE) for number in range(count)]

    return Devices(look)


class Yard:
    """Tasks that ask for devices and say in which order they get them."""

    def __init__(self, pool: Devices) -> None:
        self.pool, self.order = pool, list[str]()
        self.held = dict[str, list[str]]()
        self.done = dict[str, asyncio.Event]()
        self.running = list[asyncio.Task[None]]()

    async def ask(self, name: str, *, task: str = "", count: int = 1, synthetic: bool = False) -> None:
        self.done[name] = asyncio.Event()

        async def hold() -> None:
            async with self.pool.lease(task or name, count=count, synthetic=synthetic) as leased:
                self.order.append(name)
                self.held[name] = [device.name for device in leased]
                await self.done[name].wait()
            del self.held[name]

        self.running.append(asyncio.create_task(hold()))
        await settle()

    async def end(self, name: str) -> None:
        self.done[name].set()
        await settle()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def play(pool: Devices, script: Callable[[Yard], Coroutine[Any, Any, None]]) -> Yard:  # Any: of asyncio's own
    async def main() -> Yard:
        yard = Yard(pool)
        await script(yard)
        for running in yard.running:
            running.cancel()
        await asyncio.gather(*yard.running, return_exceptions=True)
        return yard

    return asyncio.run(main())


def test_a_device_is_leased_once_and_given_back() -> None:
    async def script(yard: Yard) -> None:
        for name in "abc":
            await yard.ask(name)
        assert sorted(yard.held["a"] + yard.held["b"]) == ["0", "1"]
        assert yard.order == ["a", "b"]
        await yard.end("a")
        assert yard.held["c"] == ["0"]

    play(devices(2), script)


def test_customers_go_before_synthetic_work() -> None:
    async def script(yard: Yard) -> None:
        await yard.ask("running")
        await yard.ask("synthetic", synthetic=True)
        await yard.ask("customer")
        await yard.end("running")
        await yard.end("customer")

    assert play(devices(1), script).order == ["running", "customer", "synthetic"]


def test_the_task_with_fewest_devices_goes_first() -> None:
    async def script(yard: Yard) -> None:
        for number in range(3):
            await yard.ask(f"large-{number}", task="large")
        await yard.ask("small")
        await yard.end("large-0")

    assert play(devices(2), script).order == ["large-0", "large-1", "small"]


def test_who_wants_several_is_not_overtaken_for_ever() -> None:
    async def script(yard: Yard) -> None:
        await yard.ask("a")
        await yard.ask("b")
        await yard.ask("both", count=2)
        await yard.ask("c")
        await yard.end("a")
        assert "c" not in yard.held
        await yard.end("b")
        assert sorted(yard.held["both"]) == ["0", "1"]
        await yard.end("both")

    assert play(devices(2), script).order == ["a", "b", "both", "c"]


def test_more_than_there_are_is_refused_with_the_figure() -> None:
    async def script(yard: Yard) -> None:
        with pytest.raises(OperatorError, match="3 devices were asked for, and there are 2"):
            async with yard.pool.lease("a", count=3):
                pass

    play(devices(2), script)


def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    async def script(yard: Yard) -> None:
        await yard.ask("a")
        await yard.ask("gives up")
        await yard.ask("c")
        yard.running[1].cancel()
        await yard.end("a")
        assert yard.held == {"c": ["0"]}

    play(devices(1), script)


@pytest.mark.parametrize(("gibibytes", "count"), [(1, 1), (70, 1), (80, 2), (280, 4)])
def test_a_model_takes_as_many_devices_as_its_size_asks_for(gibibytes: int, count: int) -> None:
    assert asyncio.run(devices(4).needed(gibibytes * GIBIBYTE)) == count


def test_a_model_that_fits_nowhere_is_refused_with_the_figure() -> None:
    with pytest.raises(OperatorError, match=r"needs 300\.0 GiB, and 4 devices with 72\.0 GiB") as refused:
        asyncio.run(devices(4).needed(300 * GIBIBYTE))
    assert refused.value.code == "devices_too_few"


def test_the_cpu_has_a_share_for_so_many_threads_and_at_least_one() -> None:
    assert {device.name for device in cpu_shares(1)} == {CPU}
    whole = cpu_shares(100_000)[0].memory_bytes
    assert sum(device.memory_bytes or 0 for device in cpu_shares(1)) == pytest.approx(whole, rel=1e-6)
    assert len(cpu_shares(1)) >= len(cpu_shares(2))
    assert len(cpu_shares(100_000)) == 1


class Changing:
    """Devices that come and go."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.pool = Devices(self.look, again_seconds=0.0)

    async def look(self) -> Sequence[Device]:
        return [Device(name) for name in self.names]


def test_devices_that_come_are_given_out_and_those_that_go_are_not() -> None:
    changing = Changing("a", "b")

    async def script(yard: Yard) -> None:
        await yard.ask("one")
        await yard.ask("two")
        await yard.ask("three")
        assert yard.held == {"one": ["a"], "two": ["b"]}
        changing.names = ("b", "c")  # a is gone while it is used, and c is new
        await yard.ask("four")
        assert yard.held["three"] == ["c"]
        await yard.end("one")
        assert "four" not in yard.held, "a device was given out that is gone"
        await yard.end("two")
        assert yard.held["four"] == ["b"]
        for name in ("three", "four"):
            await yard.end(name)

    play(changing.pool, script)


def test_who_waits_for_more_than_is_left_is_refused() -> None:
    changing = Changing("a", "b")

    async def main() -> None:
        async with changing.pool.lease("one"):
            waiting = asyncio.create_task(_hold(changing.pool, count=2))
            await settle()
            changing.names = ("b",)
            await changing.pool.all()
            with pytest.raises(OperatorError, match="2 devices were asked for, and there are 1"):
                await waiting

    asyncio.run(main())


async def _hold(pool: Devices, *, count: int) -> None:
    async with pool.lease("two", count=count):
        pass
