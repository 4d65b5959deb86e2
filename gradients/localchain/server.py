"""The running chain: a websocket server, and a block every few moments."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from websockets.asyncio.server import Server
from websockets.asyncio.server import serve as serve_websockets

from gradients.clock import SystemClock
from gradients.errors import SetupError
from gradients.localchain.chain import Chain
from gradients.localchain.rpc.connection import Service
from gradients.localchain.rpc.subscriptions import Subscriptions
from gradients.localchain.settings import LocalChainSettings
from gradients.localchain.store import Store
from gradients.log import get_logger

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
CLOSE_SECONDS = 1.0  # for a client that does not say goodbye

log = get_logger("localchain")


@dataclass(frozen=True, slots=True)
class Running:
    """Where a chain can be reached, and which one it is."""

    url: str
    genesis: str
    block: int  # the newest one when it began to listen
    _production: asyncio.Task[None]

    async def wait(self, stop: asyncio.Event) -> None:
        """Sleep until `stop` is set or the chain can make no more blocks."""
        asked = asyncio.ensure_future(stop.wait())
        await asyncio.wait({asked, self._production}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()


async def serve(settings: LocalChainSettings) -> None:
    """Run a chain until cancelled. Raises SetupError and DiskFull."""
    async with running(settings) as chain:
        await chain.wait(asyncio.Event())


@asynccontextmanager
async def running(settings: LocalChainSettings) -> AsyncIterator[Running]:
    """A chain that runs while the context does. Raises SetupError, and DiskFull at the end when it had to stop for that."""
    store = Store(settings.data)
    try:
        chain = Chain(settings, store, SystemClock())
        subscriptions = Subscriptions()
        async with _listening(settings, Service(chain, subscriptions)) as server:
            stop = asyncio.Event()
            production = asyncio.create_task(
                _produce(chain, subscriptions, block_seconds=settings.block_seconds, stop=stop)
            )
            host, port = server.sockets[0].getsockname()[:2]
            try:
                yield Running(f"ws://{host}:{port}", "0x" + chain.genesis_hash.hex(), chain.head.number, production)
            finally:
                stop.set()
                await production  # no TaskGroup: it would wrap the caller's own exceptions
    finally:
        store.close()


async def _produce(chain: Chain, subscriptions: Subscriptions, *, block_seconds: float, stop: asyncio.Event) -> None:
    """Make blocks at an even pace until `stop`; a late block doesn't push the others back."""
    loop = asyncio.get_running_loop()
    due = loop.time() + block_seconds
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(due):
                await stop.wait()
        if stop.is_set():
            return
        built = await chain.advance()
        subscriptions.publish(built)
        log.debug("block_made", block=built.block.header.number, extrinsics=len(built.included))
        due = max(due + block_seconds, loop.time())


@asynccontextmanager
async def _listening(settings: LocalChainSettings, service: Service) -> AsyncIterator[Server]:
    """The websocket server. Raises SetupError when the address cannot be had."""
    logger = logging.getLogger("websockets.server")
    logger.setLevel(logging.CRITICAL)  # it writes a traceback for each peer that only looks whether the port is open
    try:
        server = await serve_websockets(
            service.serve,
            settings.host,
            settings.port,
            max_size=MAX_MESSAGE_BYTES,
            compression=None,
            close_timeout=CLOSE_SECONDS,
            logger=logger,
        )
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        if error.errno == errno.EADDRINUSE:
            raise SetupError(f"{where} is in use", fix="Stop what listens there or choose another --port") from error
        raise SetupError(f"Could not listen on {where}: {error.strerror}") from error
    async with server:
        yield server
