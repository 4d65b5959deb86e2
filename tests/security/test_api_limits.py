"""What a server behind a proxy does with connections: the proxy's one address is everybody's, and its idle connections stay."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace

import pytest

from gradients.axon.limits import ServerLimits
from gradients.axon.server import signed_app
from gradients.domain.chain import AxonAddress
from gradients.testing.axons import keypair_of, serving_in_thread
from tests.security.conftest import registered_policy
from tests.security.test_axon_limits import PATIENCE, wait_until_closed
from validator.settings import ApiSettings

API = ApiSettings().limits()
SHORT = replace(API, header_seconds=0.3)
REQUEST = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK"


@contextmanager
def serving(limits: ServerLimits) -> Iterator[AxonAddress]:
    app = signed_app(keypair=keypair_of("axon"), policy=registered_policy())
    with serving_in_thread(app, limits=limits) as address:
        yield address


@pytest.fixture(scope="module")
def server() -> Iterator[AxonAddress]:
    with serving(SHORT) as address:
        yield address


def connect(server: AxonAddress) -> socket.socket:
    return socket.create_connection((server.ip, server.port), timeout=PATIENCE)


def ask(connection: socket.socket) -> bytes:
    """The first line of the answer to one request; the rest is read and left."""
    connection.sendall(REQUEST)
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(4096)
    return answer[: len(OK)]


def test_one_address_has_as_many_connections_as_it_wants() -> None:
    with serving(replace(API, header_seconds=60.0)) as server, ExitStack() as held:
        connections = [held.enter_context(closing(connect(server))) for _ in range(100)]
        assert [ask(connection) for connection in connections] == [OK] * 100
        assert [ask(connection) for connection in connections] == [OK] * 100


def test_a_connection_may_rest_between_requests_for_longer_than_a_head_may_take(server: AxonAddress) -> None:
    with connect(server) as connection:
        for _ in range(3):
            assert ask(connection) == OK
            time.sleep(2 * SHORT.header_seconds)
        assert ask(connection) == OK


def test_a_connection_that_rests_for_too_long_is_ended() -> None:
    with serving(replace(SHORT, keep_alive_seconds=1.0)) as server:
        started = time.monotonic()
        with connect(server) as connection:
            assert ask(connection) == OK
            wait_until_closed(connection)
    assert time.monotonic() - started >= 0.9


def test_a_first_head_has_no_longer_than_an_axons(server: AxonAddress) -> None:
    with connect(server) as connection:
        wait_until_closed(connection)  # long before it has rested for too long


def test_a_later_head_that_has_begun_has_no_longer_either(server: AxonAddress) -> None:
    with connect(server) as connection:
        assert ask(connection) == OK
        connection.sendall(REQUEST[:10])
        wait_until_closed(connection)


def test_a_later_head_that_drips_in_is_no_way_around_that(server: AxonAddress) -> None:
    with connect(server) as connection:
        assert ask(connection) == OK
        started = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT012 (which drop is one too many is the server's choice)
            while time.monotonic() - started < PATIENCE:
                connection.sendall(b"G")
                time.sleep(0.05)
    assert time.monotonic() - started < SHORT.keep_alive_seconds


def test_a_proxys_idle_connections_last_as_long_as_the_proxy_keeps_them() -> None:
    assert API.keep_alive_seconds > 120  # Caddy's; nginx has 60, HAProxy none of its own by default
