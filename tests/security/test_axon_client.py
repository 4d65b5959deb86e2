"""What a caller believes: only what the peer has signed, for this very question, in time, and no more of it than it asked for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import pytest
from bittensor import http_auth
from pydantic import BaseModel, ConfigDict

from gradients.axon.auth import answer_target
from gradients.axon.client import AxonClient, Peer
from gradients.axon.limits import ClientLimits, ServerLimits
from gradients.axon.transport import ANSWER_METHOD, HEADER_FILE
from gradients.domain.chain import AxonAddress
from gradients.domain.task import Hotkey
from gradients.errors import Blame, GradientsError, PeerMisbehaved, PeerRefused, PeerUnreachable
from gradients.testing.axons import HOST, RunningAxon, StartAxon, keypair_of

LIMITS = ClientLimits(
    answer_seconds=1.0, answer_bytes=10_000, connect_seconds=1.0, stall_seconds=0.5
)  # for peers that hold on
PATIENCE = 60.0
# For all others: on a busy machine they may be silent for longer than one that holds on is let be.
PATIENT = replace(LIMITS, answer_seconds=PATIENCE, connect_seconds=PATIENCE, stall_seconds=PATIENCE)
VALID = b'{"text":"hello"}'


class Echo(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str


Head = dict[str, str]  # lower-case names of a request's headers, and ":target"
Serve = Callable[[socket.socket, Head], None]


@contextlib.contextmanager
def hostile_peer(serve: Serve) -> Iterator[Peer]:
    """A peer at whose address `serve` does as it likes with each connection; its hotkey is //axon."""
    listener = socket.create_server((HOST, 0))
    listener.settimeout(0.05)
    over = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(PATIENCE)
            serve(connection, read_head(connection))

    def accept() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                answer(listener.accept()[0])

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield Peer(Hotkey(keypair_of("axon").ss58_address), AxonAddress(HOST, listener.getsockname()[1]))
    finally:
        over.set()
        thread.join()
        listener.close()


def read_head(connection: socket.socket) -> Head:
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += connection.recv(65536)
    first, *lines = raw.decode("latin-1").partition("\r\n\r\n")[0].split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    return {":target": first.split(" ")[1]} | {name.lower(): value for name, _, value in pairs}


def signature(
    head: Head,
    content: bytes,
    *,
    status: int = 200,
    signer: str = "axon",
    nonce: str | None = None,
    target: str | None = None,
    receiver: str | None = None,
    age_seconds: float = 0.0,
) -> dict[str, str]:
    """Headers of an answer that is in order unless told otherwise."""
    path = answer_target(
        target=head[":target"] if target is None else target,
        nonce=head["x-bittensor-nonce"] if nonce is None else nonce,
        status=status,
    )
    return dict(
        http_auth.sign(
            keypair_of(signer),
            method=ANSWER_METHOD,
            path=path,
            body=content,
            receiver_ss58=receiver or head["x-bittensor-hotkey"],
            nonce_ns=time.time_ns() - int(age_seconds * 1e9),
        )
    )


def answer(content: bytes, headers: dict[str, str], *, status: int = 200, length: int | None = None) -> bytes:
    """An answer as bytes."""
    all_headers = {"Content-Length": str(len(content) if length is None else length), "Connection": "close", **headers}
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in all_headers.items()), "", ""]
    return "\r\n".join(lines).encode() + content


def call(peer: Peer, act: Callable[[AxonClient], Awaitable[object]], limits: ClientLimits = PATIENT) -> object:
    """What `act` gets as //validator."""

    async def run() -> object:
        client = AxonClient(keypair_of("validator"), allow_private=True, limits=limits)
        try:
            async with asyncio.timeout(2 * PATIENCE):
                return await act(client)
        finally:
            await client.close()

    return asyncio.run(run())


def ask(peer: Peer, limits: ClientLimits = PATIENT) -> object:
    return call(peer, lambda client: client.post(peer, "/v1/echo", Echo(text="hello"), answer=Echo), limits)


def ask_in_time(peer: Peer) -> object:
    return ask(peer, LIMITS)


def until_nobody_listens(connection: socket.socket) -> None:
    while connection.recv(1000):
        pass


async def read_file(client: AxonClient, peer: Peer, offset: int) -> bytes:
    async with client.stream(peer, "/v1/file", offset=offset) as chunks:
        return b"".join([chunk async for chunk in chunks])


def failure(peer: Peer, act: Callable[[Peer], object] = ask) -> GradientsError:
    with pytest.raises(GradientsError) as caught:
        act(peer)
    return caught.value


@pytest.fixture(scope="module")
def axon(start_axon: StartAxon) -> RunningAxon:
    """A peer that means well, with the limits of one: it shares a processor with 150 requests in one of the tests."""
    return start_axon(limits=ServerLimits())


def test_a_signed_answer_is_believed(axon: RunningAxon) -> None:
    assert ask(axon.peer) == Echo(text="hello")


# what is wrong -> the bytes of the answer
UNSIGNED: dict[str, Callable[[Head], bytes]] = {
    "no signature": lambda head: answer(VALID, {}),
    "another key": lambda head: answer(VALID, signature(head, VALID, signer="somebody")),
    "another key under the peer's name": lambda head: answer(
        VALID,
        signature(head, VALID, signer="somebody") | {http_auth.HEADER_HOTKEY: keypair_of("axon").ss58_address},
    ),
    "another body": lambda head: answer(VALID, signature(head, b'{"text":"other"}')),
    "another status": lambda head: answer(VALID, signature(head, VALID, status=200), status=201),
    "another path": lambda head: answer(VALID, signature(head, VALID, target="/v1/other")),
    "another request": lambda head: answer(VALID, signature(head, VALID, nonce="1")),
    "another caller": lambda head: answer(VALID, signature(head, VALID, receiver=keypair_of("miner").ss58_address)),
    "a request's signature sent back": lambda head: answer(
        VALID, {name: value for name, value in head.items() if name.startswith("x-bittensor")}
    ),
}


@pytest.mark.parametrize("what", UNSIGNED)
def test_an_answer_that_the_peer_has_not_signed_is_no_answer(what: str) -> None:
    with hostile_peer(lambda connection, head: connection.sendall(UNSIGNED[what](head))) as peer:
        error = failure(peer)

    assert isinstance(error, PeerUnreachable)
    assert error.code == "answer_unsigned"
    assert error.blame is Blame.OUTSIDE


def test_an_answer_of_long_ago_is_a_matter_of_clocks() -> None:
    with hostile_peer(lambda c, head: c.sendall(answer(VALID, signature(head, VALID, age_seconds=60)))) as peer:
        error = failure(peer)

    assert isinstance(error, PeerUnreachable)
    assert "clocks" in str(error)


@pytest.mark.parametrize("content", [b"", b"null", b"{}", b"[" * 9000, b"\xff", b'{"text":"a","extra":1}'])
def test_a_signed_answer_that_is_no_message_is_the_peers_own_fault(content: bytes) -> None:
    with hostile_peer(lambda c, head: c.sendall(answer(content, signature(head, content)))) as peer:
        error = failure(peer)

    assert isinstance(error, PeerMisbehaved)
    assert error.blame is Blame.MINER


@pytest.mark.parametrize("framing", ["announced", "not announced"])
def test_an_answer_is_cut_where_it_becomes_too_long(framing: str) -> None:
    sent = 0

    def flood(connection: socket.socket, head: Head) -> None:
        nonlocal sent
        length = {"Content-Length": str(10**12)} if framing == "announced" else {}
        lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in length.items()), "", ""]
        connection.sendall("\r\n".join(lines).encode())
        while sent < 10**9:
            sent += connection.send(b"a" * 100_000)

    with hostile_peer(flood) as peer:
        error = failure(peer)

    assert (error.blame, error.code) == (Blame.OUTSIDE, "answer_too_large")
    assert sent < 10**8  # what fits into the kernel's buffers, not what the peer would have liked to send


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    asked: list[str] = []

    def redirect(connection: socket.socket, head: Head) -> None:
        asked.append(head[":target"])
        connection.sendall(answer(b"", {"Location": f"http://{head['host']}/elsewhere"}, status=status))

    with hostile_peer(redirect) as peer:
        error = failure(peer)

    assert (type(error), error.code) == (PeerRefused, f"http_{status}")
    assert asked == ["/v1/echo"]


@pytest.mark.parametrize(
    "content",
    [b"<html>", b'{"version":1,"code":"not a code\\n","message":"x"}', b'{"code":"x"}', b""],
    ids=["HTML", "a code with a line break", "no message", "nothing"],
)
def test_a_refusal_that_makes_no_sense_is_known_by_its_status(content: bytes) -> None:
    with hostile_peer(lambda c, head: c.sendall(answer(content, {}, status=503))) as peer:
        error = failure(peer)

    assert (type(error), error.code, error.blame) == (PeerRefused, "http_503", Blame.OUTSIDE)


def silent(connection: socket.socket, head: Head) -> None:
    until_nobody_listens(connection)


def dripping_body(connection: socket.socket, head: Head) -> None:
    connection.sendall(answer(b"", {}, length=10_000))
    while True:
        connection.sendall(b"a")
        time.sleep(0.05)


def dripping_head(connection: socket.socket, head: Head) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        connection.sendall(b"a")
        time.sleep(0.05)


@pytest.mark.parametrize("serve", [silent, dripping_body, dripping_head])
def test_no_peer_is_waited_for_longer_than_the_limit(serve: Serve) -> None:
    with hostile_peer(serve) as peer:
        error = failure(peer, ask_in_time)

    assert isinstance(error, PeerUnreachable)


@pytest.mark.parametrize(
    "raw",
    [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort", b"HTTP/1.1 999999 X\r\n\r\n"],
    ids=["nothing", "SSH", "cut short", "no status"],
)
def test_what_is_no_http_is_no_answer(raw: bytes) -> None:
    with hostile_peer(lambda connection, head: connection.sendall(raw)) as peer:
        assert isinstance(failure(peer), PeerUnreachable)


def test_nobody_at_home_is_no_answer() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]

    assert isinstance(failure(Peer(Hotkey("5x"), AxonAddress(HOST, port))), PeerUnreachable)


def test_peers_that_hold_on_do_not_keep_the_others_waiting(axon: RunningAxon) -> None:
    async def everybody(client: AxonClient, holding: Peer) -> object:
        held = [asyncio.create_task(client.get(holding, "/v1/x", answer=Echo)) for _ in range(150)]
        await asyncio.sleep(0)
        try:
            return await client.post(axon.peer, "/v1/echo", Echo(text="hello"), answer=Echo)
        finally:
            for task in held:
                task.cancel()
            await asyncio.gather(*held, return_exceptions=True)

    with socket.create_server((HOST, 0), backlog=256) as listener:
        holding = replace(axon.peer, address=AxonAddress(HOST, listener.getsockname()[1]))
        assert call(axon.peer, lambda client: everybody(client, holding)) == Echo(text="hello")


# ---- files


@pytest.mark.parametrize("offset", [0, 1, 699_999, 700_000])
def test_a_file_is_read_from_the_offset_on(offset: int, axon: RunningAxon) -> None:
    whole = call(axon.peer, lambda client: read_file(client, axon.peer, 0))
    assert isinstance(whole, bytes)

    assert call(axon.peer, lambda client: read_file(client, axon.peer, offset)) == whole[offset:]


def from_offset_10(peer: Peer, limits: ClientLimits = PATIENT) -> object:
    return call(peer, lambda client: read_file(client, peer, 10), limits)


@pytest.mark.parametrize(
    ("status", "file"),
    [(200, "a" * 64 + " -"), (206, "a" * 64 + " bytes 0-99/100"), (206, "a" * 64 + " bytes 100-199/200"), (206, "")],
    ids=["the whole file", "an earlier range", "a later range", "no range"],
)
def test_another_range_than_asked_for_is_the_peers_own_fault(status: int, file: str) -> None:
    def serve(connection: socket.socket, head: Head) -> None:
        headers = {HEADER_FILE: file, **signature(head, file.encode(), status=status)}
        connection.sendall(answer(b"a" * 100, headers, status=status))

    with hostile_peer(serve) as peer:
        error = failure(peer, from_offset_10)

    assert (type(error), error.code) == (PeerMisbehaved, "range_mismatch")


def test_a_file_whose_head_is_unsigned_is_not_read() -> None:
    with hostile_peer(lambda c, head: c.sendall(answer(b"a" * 100, {HEADER_FILE: "x bytes 10-"}, status=206))) as peer:
        assert failure(peer, from_offset_10).code == "answer_unsigned"


def test_a_file_that_stalls_is_given_up() -> None:
    def serve(connection: socket.socket, head: Head) -> None:
        file = "a" * 64 + " bytes 10-99/100"
        headers = {HEADER_FILE: file, **signature(head, file.encode(), status=206)}
        connection.sendall(answer(b"a" * 50, headers, status=206, length=90))
        until_nobody_listens(connection)

    with hostile_peer(serve) as peer:
        assert isinstance(failure(peer, lambda peer: from_offset_10(peer, LIMITS)), PeerUnreachable)


# ---- addresses

NOBODYS_IPV4 = """
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 127.0.0.1 127.0.0.2 127.255.255.255 169.254.0.1 169.254.169.254 172.16.0.1 172.31.255.255
192.0.0.1 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1
255.255.255.255
"""
NOBODYS_IPV6 = """
:: ::1 ::7f00:1 ::10.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:7f00:1 ::ffff:0:7f00:1
64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:7f00:1:: 2002:a9fe:a9fe:: 3fff::1 5f00::1
fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 2606:4700::1%1 fec0::1 ff02::1 ff0e::1
"""
NO_IP = """
localhost metadata.google.internal example.com evil@1.1.1.1 1.1.1.1/x 1.1.1.1:80 1.1.1.1? 1.1.1.1# [::1] 127.1 0x7f000001
2130706433 0177.0.0.1 1.1.1 001.1.1.1 1.1.1.1%0a
"""


def ask_public(peer: Peer) -> object:
    """As a validator on a public network does."""

    async def run() -> object:
        client = AxonClient(keypair_of("validator"), allow_private=False, limits=replace(LIMITS, answer_seconds=0.01))
        try:
            return await client.get(peer, "/v1/x", answer=Echo)
        finally:
            await client.close()

    return asyncio.run(run())


@pytest.mark.parametrize(
    "ip", [*NOBODYS_IPV4.split(), *NOBODYS_IPV6.split(), *NO_IP.split(), "", " 1.1.1.1", "1.1.1.1\r\n"]
)
def test_an_address_that_is_nobodys_on_the_internet_is_not_called(ip: str) -> None:
    error = failure(Peer(Hotkey("5x"), AxonAddress(ip, 8091)), ask_public)

    assert (error.code, error.blame) == ("address_refused", Blame.OUTSIDE)


@pytest.mark.parametrize("port", [-1, 0, 1, 22, 80, 443, 1023, 65536, 10**6])
def test_a_port_that_is_no_axons_is_not_called(port: int) -> None:
    assert failure(Peer(Hotkey("5x"), AxonAddress("1.1.1.1", port)), ask_public).code == "address_refused"


def test_a_private_address_is_called_on_a_local_network_only(axon: RunningAxon) -> None:
    assert failure(axon.peer, ask_public).code == "address_refused"
    assert ask(axon.peer) == Echo(text="hello")
