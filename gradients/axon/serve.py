"""Runs an application on a socket inside the daemon's loop, and drops connections that only hold on.

uvicorn waits for ever for the head of a first request; the protocol below gives each connection a deadline for a whole head, from
connecting and again from each answer. Connections are counted by address and in all (connections.py), so that no flood uses up the
descriptors that chain, ledger and outgoing calls need. Does not cover: peers that read an answer slowly, until there are too many.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from gradients.axon.connections import UNHEARD, Connections, OnceAMinute
from gradients.axon.descriptors import connections_of_a_server
from gradients.axon.limits import ServerLimits
from gradients.domain.chain import AxonAddress
from gradients.errors import SetupError

SHUTDOWN_SECONDS = 3
ACCEPTED_AT_ONCE = 64  # asyncio takes so many connections before any of them is looked at
WAITING_IN_KERNEL = 2048  # they cost no descriptor of ours
GOOD_BYTES_PER_SECOND = 16_384  # a body that comes as fast is never behind
FIRST_BYTE_SECONDS = 0.5  # a busy loop reads later than bytes come
UNREAD_SECONDS = 10.0  # from which an answer that nobody reads may give way


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
    connections = Connections(limits, most=limits.connections or connections_of_a_server())
    config = uvicorn.Config(
        app,
        http=_protocol(limits, connections),
        ws="none",  # a connection that turns into a websocket would leave our protocol, and its limits
        log_config=None,
        log_level="error",  # a line for each request that is not HTTP would be strangers' to multiply
        backlog=ACCEPTED_AT_ONCE,
        access_log=False,
        lifespan="off",
        timeout_keep_alive=math.ceil(limits.keep_alive_seconds),
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        server_header=False,
    )
    server = _Embedded(config)
    with _quiet_accepts(asyncio.get_running_loop()):
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await server.ready.wait()
            listener.listen(WAITING_IN_KERNEL)
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


@contextlib.contextmanager
def _quiet_accepts(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """asyncio reports each connection that it has no descriptor for; a line a minute says the same."""
    before, failed = loop.get_exception_handler(), OnceAMinute("connections_not_accepted")

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and "accept" in context.get("message", ""):
            failed.happened(now=loop.time(), problem=str(error))
        elif before is not None:
            before(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)
    try:
        yield
    finally:
        loop.set_exception_handler(before)


def _protocol(limits: ServerLimits, connections: Connections) -> type[H11Protocol]:
    """uvicorn's protocol with a deadline for request heads, among connections that are counted."""

    class Impatient(H11Protocol):
        def connection_made(self, transport: Any) -> None:  # noqa: ANN401 (as uvicorn declares it)
            super().connection_made(transport)
            self.address = self.client[0] if self.client else "?"
            self._wait_since(self.loop.time())
            self._unread_since: float | None = None
            self._await_head(self.cycle, limits.header_seconds)
            connections.add(self, now=self.loop.time())

        def connection_lost(self, exc: Exception | None) -> None:
            connections.remove(self)
            self._deadline.cancel()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            self._received += len(data)
            if self.cycle is self._before and self._deadline.when() > self.loop.time() + limits.header_seconds:
                self._deadline.cancel()
                self._await_head(self._before, limits.header_seconds)  # idle no more: a head that has begun is due
            super().data_received(data)

        def pause_writing(self) -> None:
            self._unread_since = self.loop.time()
            super().pause_writing()

        def resume_writing(self) -> None:
            self._unread_since = None
            super().resume_writing()

        def on_response_complete(self) -> None:
            before = self.cycle  # a pipelined request begins the next one at once
            super().on_response_complete()
            self._deadline.cancel()
            self._wait_since(self.loop.time())
            unwanted = before.more_body  # what is still to come of a refused body has a head's time to end
            self._await_head(before, limits.header_seconds if unwanted else limits.keep_alive_seconds)

        def behind(self, now: float) -> float | None:
            cycle = self.cycle
            if cycle is None or cycle.response_complete or cycle.more_body:
                waited = now - self._since
                unheard = not self._received and waited < FIRST_BYTE_SECONDS
                return UNHEARD if unheard else waited - self._received / GOOD_BYTES_PER_SECOND
            stalled = now - self._unread_since if self._unread_since is not None else 0.0
            return stalled if stalled > UNREAD_SECONDS else None

        def drop(self) -> None:
            self.transport.abort()

        def _wait_since(self, now: float) -> None:
            self._since, self._received = now, 0

        def _await_head(self, before: object, seconds: float) -> None:
            """Hang up after so many seconds unless another request than `before` has begun."""

            def hang_up() -> None:
                if self.cycle is before and not self.transport.is_closing():
                    self.transport.close()

            self._before = before
            self._deadline = self.loop.call_later(seconds, hang_up)

    return Impatient
