"""A clock that a test turns."""

from __future__ import annotations

import asyncio


class HandClock:
    """Stands still until somebody sleeps on it or sets `time`, in seconds since the Unix epoch."""

    def __init__(self, time: float = 1000.0) -> None:
        self.time = time

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)
