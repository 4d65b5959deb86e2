"""A websocket between a client and a chain that loses, when asked to, a transaction or the answer to it, or holds transactions back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from typing import NamedTuple

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from gradients.localchain.server import MAX_MESSAGE_BYTES

SUBMISSION = "author_submit"


class Loss(Enum):
    """What the wire does to the next transaction; afterwards it hangs up, and later connections are good again."""

    NOTHING = auto()
    TRANSACTION = auto()  # it never reaches the chain
    ANSWER = auto()  # it stands in a block, and its sender is not told


class Fate(NamedTuple):
    """What becomes of a transaction on the wire."""

    loss: Loss
    delay_seconds: float


class LossyWire:
    """Carries every message both ways until `loss` says otherwise, or `weather`, which is asked for each transaction when there is one."""

    def __init__(self, target: str, weather: Callable[[], Fate] | None = None) -> None:
        self._target = target
        self._weather = weather
        self.url = ""
        self.loss = Loss.NOTHING
        self.holds_back = False
        self.held = list[asyncio.Event]()  # one for each transaction held back, in their order: set it to let go

    async def has_held(self, count: int) -> None:
        """Wait until so many transactions have been held back."""
        while len(self.held) < count:  # noqa: ASYNC110 (a list has no event)
            await asyncio.sleep(0.01)

    async def carry(self, client: ServerConnection) -> None:
        """Serve one client, over a connection to the chain of its own; where no chain answers, the client is cut off."""
        try:
            chain = await connect(self._target, max_size=MAX_MESSAGE_BYTES, compression=None)
        except (OSError, InvalidHandshake, ConnectionClosed):
            client.transport.abort()
            return
        async with chain:

            async def answer() -> None:
                with suppress(ConnectionClosed):
                    async for message in chain:
                        await client.send(message)
                client.transport.abort()  # a chain that has died says nothing more

            answers = asyncio.create_task(answer())
            try:
                await self._forward(client, chain, answers)
            finally:
                answers.cancel()

    async def _forward(self, client: ServerConnection, chain: ClientConnection, answers: asyncio.Task[None]) -> None:
        with suppress(ConnectionClosed):
            async for message in client:
                if SUBMISSION not in str(message):
                    await chain.send(message)
                    continue
                if self.holds_back:
                    self.held.append(let_go := asyncio.Event())
                    await let_go.wait()
                loss, delay_seconds = self._weather() if self._weather else Fate(self.loss, 0.0)
                self.loss = Loss.NOTHING
                await asyncio.sleep(delay_seconds)
                if loss is Loss.NOTHING:
                    await chain.send(message)
                    continue
                answers.cancel()
                await asyncio.wait({answers})
                if loss is Loss.ANSWER:
                    await chain.send(message)
                    await chain.recv()  # the chain has taken it
                client.transport.abort()
                return


@asynccontextmanager
async def lossy_wire(target: str, weather: Callable[[], Fate] | None = None) -> AsyncIterator[LossyWire]:
    """A wire to the chain at `target`; clients connect to its `url`."""
    wire = LossyWire(target, weather)
    async with serve(wire.carry, "127.0.0.1", 0, max_size=MAX_MESSAGE_BYTES, compression=None) as server:
        wire.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield wire
        finally:
            wire.holds_back = False
            for each in wire.held:  # or whoever carries them would never end
                each.set()
