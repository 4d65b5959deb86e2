"""Runs an application on a socket inside the daemon's loop, and drops connections that only hold on.

uvicorn waits for ever for the head of a first request; the protocol below gives each connection a deadline for a whole head, from
connecting and again from each answer, and each address a number of connections. Does not cover: peers that read an answer slowly; they
use up connections of their own address only, or of a proxy's, where its connections are not counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections import Counter
from collections.abc import AsyncIterator, Generator
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from gradients.axon.limits import ServerLimits
from gradients.domain.addresses import is_private
from gradients.domain.chain import AxonAddress
from gradients.errors import SetupError

SHUTDOWN_SECONDS = 3


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    limits: ServerLimits = ServerLimits(),  # noqa: B008 (frozen)
) -> AsyncIterator[AxonAddress]:
    """Serve `app` for the body; port 0 takes a free one. Raises SetupError when the port is taken."""
    listener = _bind(host, port)
    config = uvicorn.Config(
        app,
        http=_protocol(limits),
        ws="none",  # a connection that turns into a websocket would leave our protocol, and its limits
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_keep_alive=math.ceil(limits.keep_alive_seconds),
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        server_header=False,
    )
    server = _Embedded(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.ready.wait()
        yield AxonAddress(host, int(listener.getsockname()[1]))
    finally:
        server.should_exit = True
        await running
        listener.close()


class _Embedded(uvicorn.Server):
    """A server that leaves signals to the daemon and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, or asyncio leaves Nagle on
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SetupError(
            f"Port {port} of {host} cannot be used: {error.strerror}", fix="Stop what uses it, or choose another port"
        ) from error
    return listener


def _protocol(limits: ServerLimits) -> type[H11Protocol]:
    """uvicorn's protocol with a deadline for request heads and a cap on connections per address."""
    connections: Counter[str] = Counter()

    class Impatient(H11Protocol):
        def connection_made(self, transport: Any) -> None:  # noqa: ANN401 (as uvicorn declares it)
            super().connection_made(transport)
            self._address = self.client[0] if self.client else "?"
            connections[self._address] += 1
            counts = limits.private_addresses_count or not is_private(self._address)
            if counts and connections[self._address] > limits.connections_per_address:
                transport.close()
            self._await_head(self.cycle, limits.header_seconds)

        def connection_lost(self, exc: Exception | None) -> None:
            connections[self._address] -= 1
            if connections[self._address] <= 0:
                del connections[self._address]
            self._deadline.cancel()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.cycle is self._before and self._deadline.when() > self.loop.time() + limits.header_seconds:
                self._deadline.cancel()
                self._await_head(self._before, limits.header_seconds)  # idle no more: a head that has begun is due
            super().data_received(data)

        def on_response_complete(self) -> None:
            before = self.cycle  # a pipelined request begins the next one at once
            super().on_response_complete()
            self._deadline.cancel()
            self._await_head(before, limits.keep_alive_seconds)

        def _await_head(self, before: object, seconds: float) -> None:
            """Hang up after so many seconds unless another request than `before` has begun."""

            def hang_up() -> None:
                if self.cycle is before and not self.transport.is_closing():
                    self.transport.close()

            self._before = before
            self._deadline = self.loop.call_later(seconds, hang_up)

    return Impatient
