"""Which connection gives way: floods push out their own, and whoever comes with whole requests gets in."""

from __future__ import annotations

import resource
import socket
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace

import httpx
import pytest
from structlog.testing import capture_logs

from gradients.axon import descriptors
from gradients.axon.connections import UNHEARD, Connections, OnceAMinute, owner_of
from gradients.axon.limits import ServerLimits
from gradients.testing.axons import StartAxon
from tests.security.conftest import LIMITS
from tests.security.test_axon_limits import PATIENCE, connect, get, head

PROXY = "10.0.0.1"
FEW = ServerLimits(connections_per_address=3, proxies=("10.0.0.0/8",))


@dataclass(eq=False)
class Peer:
    """A connection of a test: how far its request is behind, and whether it was dropped."""

    address: str
    late: float | None = 0.0
    dropped: bool = field(default=False)

    def behind(self, now: float) -> float | None:
        return self.late

    def drop(self) -> None:
        self.dropped = True


def held(most: int, *peers: Peer, limits: ServerLimits = FEW) -> Connections:
    connections = Connections(limits, most=most)
    for peer in peers:
        connections.add(peer, now=0.0)
    return connections


def test_an_address_has_so_many_connections_and_a_proxy_as_many_as_there_are() -> None:
    strangers, proxied = [Peer("8.8.8.8") for _ in range(5)], [Peer(PROXY) for _ in range(5)]
    held(100, *strangers, *proxied)
    assert [peer.dropped for peer in strangers] == [False] * 3 + [True] * 2
    assert not any(peer.dropped for peer in proxied)


def test_the_address_with_the_most_loses_its_latest() -> None:
    flood, honest = [Peer(PROXY, late) for late in (1.0, 9.0, 5.0)], Peer("8.8.8.8", 20.0)
    connections = held(4, *flood, honest)
    newcomer = Peer("1.1.1.1")
    connections.add(newcomer, now=0.0)
    assert [peer.dropped for peer in (*flood, honest, newcomer)] == [False, True, False, False, False]
    assert len(connections) == 4


def test_what_works_stays_and_the_next_address_gives_way() -> None:
    working, waiting = [Peer(PROXY, None) for _ in range(3)], Peer("8.8.8.8", 0.1)
    held(4, *working, waiting, Peer("1.1.1.1", None))
    assert (waiting.dropped, any(peer.dropped for peer in working)) == (True, False)


def test_an_address_with_many_requests_that_work_loses_none_to_one_that_lets_us_wait() -> None:
    busy, waiting = [Peer(PROXY, None) for _ in range(5)], [Peer("8.8.8.8", late) for late in (0.1, 0.2)]
    fresh = Peer(PROXY, 0.0)
    held(7, *busy, *waiting, fresh)
    assert [peer.dropped for peer in (*busy, *waiting, fresh)] == [False] * 5 + [False, True, False]


def test_who_had_no_chance_to_speak_gives_way_last() -> None:
    unheard, slow = [Peer(PROXY, UNHEARD) for _ in range(5)], [Peer("8.8.8.8", late) for late in (0.1, 0.2)]
    held(6, *unheard, *slow[::-1])
    assert [peer.dropped for peer in (*unheard, *slow)] == [False] * 5 + [False, True]


def test_of_those_who_had_no_chance_the_address_with_the_most_loses_one() -> None:
    many, few = [Peer(PROXY, UNHEARD) for _ in range(3)], [Peer("8.8.8.8", UNHEARD)]
    held(4, *many, *few, Peer("1.1.1.1", UNHEARD))
    assert (sum(peer.dropped for peer in many), few[0].dropped) == (1, False)


def test_a_newcomer_is_refused_when_everybody_works() -> None:
    working = [Peer(f"8.8.8.{n}", None) for n in range(4)]
    newcomer = Peer("1.1.1.1", None)
    held(4, *working, newcomer)
    assert newcomer.dropped
    assert not any(peer.dropped for peer in working)


def test_a_fast_body_outlives_slow_ones_of_its_address() -> None:
    upload, drip, fresh = Peer(PROXY, -500.0), Peer(PROXY, 3.0), Peer(PROXY, 0.0)
    held(2, upload, drip, fresh)
    assert [peer.dropped for peer in (upload, drip, fresh)] == [False, True, False]


def test_a_dropped_connection_that_ends_is_not_counted_twice() -> None:
    peers = [Peer(PROXY, 1.0) for _ in range(3)]
    connections = held(2, *peers)
    for peer in peers:
        connections.remove(peer)
    assert len(connections) == 0


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:0:1::1", "2001:db8::1", False),
        ("8.8.8.8", "8.8.8.9", False),
        ("::ffff:8.8.8.8", "8.8.8.8", True),
    ],
)
def test_a_network_of_ipv6_counts_as_one(ours: str, theirs: str, same: bool) -> None:
    assert (owner_of(ours) == owner_of(theirs)) is same


def test_a_flood_is_a_line_a_minute() -> None:
    event = OnceAMinute("flooded")
    with capture_logs() as lines:
        for tenth in range(1_300):
            event.happened(now=tenth / 10)
    assert [line["count"] for line in lines] == [1, 600, 600]


def test_servers_leave_descriptors_for_the_daemons_own_work() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
        worst = descriptors.connections_of_a_server() * descriptors.SERVERS * descriptors.PER_CONNECTION
        assert (worst, 1024 - worst) == (640, descriptors.KEPT)
        assert descriptors.raise_limit() == min(before[1], descriptors.MOST)
        assert descriptors.raise_limit() == min(before[1], descriptors.MOST)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_slow_bodies_from_many_addresses_keep_no_caller_out(start_axon: StartAxon) -> None:
    """Bodies may take all the time that the test has, so only giving way lets anybody in."""
    patient = replace(LIMITS, connections=20, body_seconds=600.0, header_seconds=600.0, keep_alive_seconds=600.0)
    axon = start_axon(limits=patient)
    with ExitStack() as open_ones, capture_logs() as lines:
        for n in range(200):
            slow = open_ones.enter_context(closing(connect(axon, source=f"127.0.1.{n % 10 + 1}")))
            slow.sendall(head(axon, "Content-Length: 1000"))
        statuses = [get(axon, "/v1/file").status_code for _ in range(20)]
    assert statuses == [200] * 20
    assert len(lines) < 100


def test_an_answer_that_nobody_reads_may_stay_while_there_is_room(start_axon: StartAxon) -> None:
    axon = start_axon(limits=replace(LIMITS, connections=5))
    headers = "".join(f"{name}: {value}\r\n" for name, value in axon.signed_headers("/v1/file").items())
    with closing(connect(axon, source="127.0.1.1")) as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        reader.sendall(f"GET /v1/file HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n".encode())
        time.sleep(0.3)
        assert [get(axon, "/v1/file").status_code for _ in range(10)] == [200] * 10
        taken = reader.makefile("rb").read()
    assert len(taken) > 700_001


def test_a_request_that_is_not_http_is_not_worth_a_line(
    start_axon: StartAxon, capfd: pytest.CaptureFixture[str]
) -> None:
    axon = start_axon(limits=LIMITS)
    for _ in range(20):
        with connect(axon) as connection:
            connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
            connection.recv(100)
    assert httpx.get(axon.address.url("/livez"), timeout=PATIENCE).status_code == 200
    assert "Invalid HTTP" not in capfd.readouterr().err
