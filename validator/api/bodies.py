"""Limits for request bodies: bytes and time, so that a stranger can neither fill the memory nor hold a connection by dripping."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class TimedBodies:
    """Refuses bodies of more than `MOST_BYTES` with 413, and those that take longer than `seconds` with 408.

    Paths for which `streamed` says so take a stream and have a limit of bytes of their own; there time grows by a second for each
    `bytes_per_second` that came. Only time that is spent on waiting for the caller counts.
    """

    app: ASGIApp
    streamed: Callable[[str], bool]
    seconds: float
    bytes_per_second: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application with its bodies counted."""
        taken, waited, more = 0, 0.0, True
        streams = self.streamed(scope.get("path", ""))

        async def counted() -> Message:
            nonlocal taken, waited, more
            if not more:  # what comes now is a hang-up, for which answers wait as long as they take
                return await receive()
            allowed = self.seconds + (taken / self.bytes_per_second if streams else 0.0)
            began = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(max(allowed - waited, 0.0)):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(
                    408, f"The body did not come in time: {taken:,} bytes in {allowed:.0f} s"
                ) from error
            waited += asyncio.get_running_loop().time() - began
            taken += len(message.get("body", b""))
            more = bool(message.get("more_body", False))
            if taken > MOST_BYTES and not streams:
                raise HTTPException(413, f"A request has at most {MOST_BYTES:,} bytes")
            return message

        await self.app(scope, counted if scope["type"] == "http" else receive, send)
