"""Who may write to an upload in pieces, and that no thread writes on after its request has ended."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from validator.api.writing import Turns, UploadBusy, Writer, alone_at_once, coming, settled

NEVER = math.inf
PATIENCE = 60.0


async def _chunks(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def test_a_request_to_which_bytes_come_keeps_its_place(tmp_path: Path) -> None:
    turns, lock = Turns(quiet_seconds=NEVER, wait_seconds=0.0), tmp_path / "a.lock"

    async def run() -> bool:
        async with turns.alone(lock, after_quiet_seconds=turns.quiet_seconds) as first:
            with pytest.raises(UploadBusy):
                async with turns.alone(lock, after_quiet_seconds=turns.quiet_seconds):
                    pass
            with pytest.raises(UploadBusy), alone_at_once(lock):
                pass
            return first.stopped.is_set()

    assert not asyncio.run(run())
    with alone_at_once(lock):
        assert lock.exists()
    assert not lock.exists()


def test_a_quiet_request_makes_room_for_a_later_one(tmp_path: Path) -> None:
    turns, lock, order = Turns(quiet_seconds=0.0, wait_seconds=PATIENCE), tmp_path / "a.lock", list[str]()
    begun = asyncio.Event()

    async def quiet() -> None:
        async with turns.alone(lock, after_quiet_seconds=turns.quiet_seconds) as writer:
            order.append("first")
            begun.set()
            await writer.stopped.wait()
            order.append("ended")

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(quiet())
            await begun.wait()
            async with turns.alone(lock, after_quiet_seconds=turns.quiet_seconds):
                order.append("second")

    asyncio.run(run())
    assert order == ["first", "ended", "second"]


def test_every_chunk_counts_as_a_sign_of_life() -> None:
    async def run() -> list[float]:
        writer, heard = Writer(heard_at=-NEVER), list[float]()
        async for _ in coming(_chunks(b"a", b"b"), writer):
            heard.append(writer.heard_at)
            writer.heard_at = -NEVER
        return heard

    assert [math.isfinite(at) for at in asyncio.run(run())] == [True, True]


def test_a_stopped_request_waits_for_no_more_bytes() -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.Event().wait()

    async def run() -> None:
        writer = Writer(heard_at=0.0)
        async for _ in coming(endless(), writer):
            writer.stopped.set()

    with pytest.raises(UploadBusy):
        asyncio.run(run())


def test_whoever_is_cancelled_waits_for_the_thread_that_writes() -> None:
    """However often: anyio cancels again and again."""
    begun, gate, written = threading.Event(), threading.Event(), list[str]()

    def write() -> None:
        begun.set()
        gate.wait(PATIENCE)
        written.append("bytes")

    async def request() -> None:
        try:
            await settled(write)
        finally:
            written.append("closed")

    async def run() -> None:
        task = asyncio.create_task(request())
        await asyncio.to_thread(begun.wait, PATIENCE)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert not task.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert written == ["bytes", "closed"]


def test_what_a_thread_makes_or_raises_comes_back() -> None:
    assert asyncio.run(settled(int, "7")) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        asyncio.run(settled(int, "x"))
