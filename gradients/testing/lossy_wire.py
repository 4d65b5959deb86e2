"""A websocket between a client and a chain that loses, when asked to, a transaction or the answer to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from gradients.localchain.server import MAX_MESSAGE_BYTES

SUBMISSION = "author_submit"


class Loss(Enum):
    """What the wire does to the next transaction; afterwards it hangs up, and later connections are good again."""

    NOTHING = auto()
    TRANSACTION = auto()  # it never reaches the chain
    ANSWER = auto()  # it stands in a block, and its sender is not told


class LossyWire:
    """Carries every message both ways until `loss` says otherwise."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.url = ""
        self.loss = Loss.NOTHING

    async def carry(self, client: ServerConnection) -> None:
        """Serve one client, over a connection to the chain of its own."""
        async with connect(self._target, max_size=MAX_MESSAGE_BYTES, compression=None) as chain:

            async def answer() -> None:
                with suppress(ConnectionClosed):
                    async for message in chain:
                        await client.send(message)

            answers = asyncio.create_task(answer())
            try:
                await self._forward(client, chain, answers)
            finally:
                answers.cancel()

    async def _forward(self, client: ServerConnection, chain: ClientConnection, answers: asyncio.Task[None]) -> None:
        with suppress(ConnectionClosed):
            async for message in client:
                if self.loss is Loss.NOTHING or SUBMISSION not in str(message):
                    await chain.send(message)
                    continue
                loss, self.loss = self.loss, Loss.NOTHING
                answers.cancel()
                await asyncio.wait({answers})
                if loss is Loss.ANSWER:
                    await chain.send(message)
                    await chain.recv()  # the chain has taken it
                client.transport.abort()
                return


@asynccontextmanager
async def lossy_wire(target: str) -> AsyncIterator[LossyWire]:
    """A wire to the chain at `target`; clients connect to its `url`."""
    wire = LossyWire(target)
    async with serve(wire.carry, "127.0.0.1", 0, max_size=MAX_MESSAGE_BYTES, compression=None) as server:
        wire.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield wire
