"""Waiting for the SDK no longer than allowed, whatever it does.

SDK 11.3 cleans up after itself by asking the node, and when the node is gone it waits for it, also when it has just been cancelled. So
a call that is late is cancelled and left to itself instead of waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

GRACE_SECONDS = 1.0


class Patience:
    """A time limit for calls, and the calls that outlived it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._running: set[asyncio.Task[Any]] = set()  # Any: calls give different results

    async def wait(self, call: Coroutine[Any, Any, Result]) -> Result:
        """The call's result. Raises TimeoutError after `seconds`."""
        task = self.start(call)
        try:
            await asyncio.wait({task}, timeout=self.seconds)
            if not task.done():
                raise TimeoutError
            return task.result()
        finally:
            task.cancel()

    def start(self, call: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """The call as a task that `end` knows of."""
        task = asyncio.create_task(call)
        self._running.add(task)
        task.add_done_callback(self._forget)
        return task

    async def end(self) -> None:
        """Cancel whatever still runs and give it a moment."""
        running = set(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=GRACE_SECONDS)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, or asyncio complains that nobody did
