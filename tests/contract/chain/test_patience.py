"""A time limit holds even against a call that does not take no for an answer."""

from __future__ import annotations

import asyncio

import pytest

from gradients.chain.patience import Patience

pytestmark = pytest.mark.anyio


async def cling(until: asyncio.Event) -> None:
    """Waits for a node that is gone, as the SDK does: when it is cancelled it begins to wait anew."""
    try:
        await asyncio.sleep(300)
    finally:
        await until.wait()


async def test_a_call_that_clings_when_cancelled_is_left_behind() -> None:
    never = asyncio.Event()
    patience = Patience(0.05)
    async with asyncio.timeout(60):
        with pytest.raises(TimeoutError):
            await patience.wait(cling(never))
        await patience.end()


async def test_results_and_errors_in_time_come_through() -> None:
    async def divide(number: int) -> float:
        return 1 / number

    patience = Patience(60)
    assert await patience.wait(divide(4)) == 0.25
    with pytest.raises(ZeroDivisionError):
        await patience.wait(divide(0))


async def test_who_stops_waiting_cancels_the_call() -> None:
    ended = asyncio.Event()

    async def call() -> None:
        try:
            await asyncio.sleep(300)
        finally:
            ended.set()

    waiting = asyncio.create_task(Patience(300).wait(call()))
    await asyncio.sleep(0)  # let it begin
    await asyncio.sleep(0)
    waiting.cancel()
    async with asyncio.timeout(60):
        await ended.wait()
    assert (await asyncio.gather(waiting, return_exceptions=True))[0].__class__ is asyncio.CancelledError


async def test_the_end_cancels_what_was_started() -> None:
    patience = Patience(300)
    task = patience.start(asyncio.sleep(300))
    await patience.end()
    assert task.cancelled()
