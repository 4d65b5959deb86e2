"""A limit for request bodies. The framework reads a body before it asks who sent it, so strangers could fill the memory."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class SmallBodies:
    """Refuses bodies of more than `MOST_BYTES` with 413, but for one path that streams its body and has a limit of its own."""

    app: ASGIApp
    but_for: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application with its bodies counted."""
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MOST_BYTES:
                raise HTTPException(413, f"A request has at most {MOST_BYTES:,} bytes")
            return message

        limited = scope["type"] == "http" and scope["path"] != self.but_for
        await self.app(scope, counted if limited else receive, send)
