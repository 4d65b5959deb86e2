"""What an axon does with callers that want too much, or want nothing and stay: bytes, seconds, requests, connections, ranges."""

from __future__ import annotations

import hashlib
import json
import random
import socket
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import replace

import httpx
import pytest

from gradients.axon.limits import ServerLimits
from gradients.testing.axons import RunningAxon, StartAxon
from tests.security.conftest import LIMITS

CONTENT = random.Random(7).randbytes(700_001)  # what conftest serves
SHORT = ServerLimits(body_bytes=100_000, header_seconds=0.5, keep_alive_seconds=0.5, body_seconds=0.5)
PATIENCE = 120.0  # seconds that a test waits for what the limits above make happen in half of one


@pytest.fixture(scope="module")
def hasty(start_axon: StartAxon) -> RunningAxon:
    """An axon that waits for nobody: for tests that keep it waiting, since on a busy machine anybody may be late."""
    return start_axon(limits=SHORT)


def connect(axon: RunningAxon, *, source: str = "") -> socket.socket:
    target = (axon.address.ip, axon.address.port)
    return socket.create_connection(target, timeout=PATIENCE, source_address=(source, 0))


def head(axon: RunningAxon, framing: str, body: bytes = b"") -> bytes:
    """The head of a signed POST; `framing` says how long its body will be."""
    headers = axon.signed_headers("/v1/echo", method="POST", body=body)
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(
        ["POST /v1/echo HTTP/1.1", "Host: x", "Content-Type: application/json", framing, *lines, "", ""]
    ).encode()


def answer_of(connection: socket.socket) -> tuple[int, dict[str, object]]:
    """Status and message of an answer after which the axon hangs up."""
    raw = connection.makefile("rb").read()
    return int(raw.split()[1]), json.loads(raw.partition(b"\r\n\r\n")[2])


def get(axon: RunningAxon, path: str, **headers: str) -> httpx.Response:
    signed = axon.signed_headers(path)
    return httpx.get(axon.address.url(path), headers={**signed, **headers}, timeout=PATIENCE, verify=False)


def wait_until_closed(connection: socket.socket) -> None:
    """Do nothing with a connection until the axon hangs up. Raises TimeoutError when it doesn't."""
    while connection.recv(4096):
        pass


def is_closed(connection: socket.socket) -> bool:
    """Whether the axon has hung up."""
    try:
        return connection.recv(4096) == b""
    except ConnectionResetError:
        return True


# ---- bodies


def test_a_body_over_the_limit_is_refused_by_what_it_announces(axon: RunningAxon) -> None:
    with connect(axon) as connection:
        connection.sendall(head(axon, "Content-Length: 100001"))
        status, refusal = answer_of(connection)

    assert (status, refusal["code"]) == (413, "body_too_large")


def test_a_body_over_the_limit_is_refused_when_it_announces_nothing(axon: RunningAxon) -> None:
    chunk = b"3e8\r\n" + b"a" * 1000 + b"\r\n"
    with connect(axon) as connection:
        connection.sendall(head(axon, "Transfer-Encoding: chunked") + chunk * 101)
        status, refusal = answer_of(connection)

    assert (status, refusal["code"]) == (413, "body_too_large")


def test_a_body_at_the_limit_is_taken(axon: RunningAxon) -> None:
    body = json.dumps({"text": "a" * (100_000 - len('{"text": ""}'))}).encode()
    with connect(axon) as connection:
        connection.sendall(head(axon, "Content-Length: 100000\r\nConnection: close", body) + body)
        status, answer = answer_of(connection)

    assert (status, len(body)) == (200, 100_000)
    assert answer == json.loads(body)


def test_a_chunked_body_is_verified_as_a_whole(axon: RunningAxon) -> None:
    body = b'{"text":"in pieces"}'
    pieces = b"".join(b"1\r\n" + body[i : i + 1] + b"\r\n" for i in range(len(body))) + b"0\r\n\r\n"
    with connect(axon) as connection:
        connection.sendall(head(axon, "Transfer-Encoding: chunked\r\nConnection: close", body) + pieces)
        status, answer = answer_of(connection)

    assert (status, answer) == (200, {"text": "in pieces"})


@pytest.mark.parametrize("drip", [b"", b"a"], ids=["nothing", "a byte"])
def test_a_body_that_does_not_come_in_time_is_refused(drip: bytes, hasty: RunningAxon) -> None:
    with connect(hasty) as connection:
        connection.sendall(head(hasty, "Content-Length: 1000") + drip)
        status, refusal = answer_of(connection)

    assert (status, refusal["code"]) == (408, "body_too_slow")


@pytest.mark.parametrize(
    "body",
    [b"[" * 50_000, b'{"text":' * 5_000, b"\xff\xfe", b"", b"null", b'{"text":1e999}', b'{"text":"a","extra":1}'],
    ids=["deep list", "deep object", "no UTF-8", "empty", "null", "infinity", "unknown key"],
)
def test_a_body_that_is_no_message_is_refused_with_a_code(body: bytes, axon: RunningAxon) -> None:
    headers = axon.signed_headers("/v1/echo", method="POST", body=body) | {"Content-Type": "application/json"}

    answer = httpx.post(axon.address.url("/v1/echo"), headers=headers, content=body, timeout=PATIENCE, verify=False)

    assert answer.status_code in (400, 422)
    assert answer.json()["code"] == "malformed"


# ---- connections that only hold on


@pytest.mark.parametrize(
    "begun", [b"", b"GET /v1/file HT", b"GET / HTTP/1.1\r\nX-Slow: "], ids=["idle", "line", "head"]
)
def test_a_head_that_does_not_come_in_time_ends_the_connection(begun: bytes, hasty: RunningAxon) -> None:
    started = time.monotonic()
    with connect(hasty) as connection:
        connection.sendall(begun)
        wait_until_closed(connection)

    assert time.monotonic() - started >= 0.4  # a slow but honest caller has its half second


def test_a_head_that_drips_in_ends_the_connection_all_the_same(hasty: RunningAxon) -> None:
    started = time.monotonic()
    with connect(hasty) as connection, pytest.raises(OSError):  # noqa: PT012 (which drop is one too many is the axon's choice)
        connection.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        while time.monotonic() - started < PATIENCE:
            connection.sendall(b"a")
            time.sleep(0.05)
    assert time.monotonic() - started < PATIENCE


def test_a_connection_that_stays_after_an_answer_is_ended(hasty: RunningAxon) -> None:
    with connect(hasty) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        wait_until_closed(connection)


def test_a_request_that_came_with_the_one_before_is_answered_however_long_it_takes(hasty: RunningAxon) -> None:
    slow = "".join(f"{name}: {value}\r\n" for name, value in hasty.signed_headers("/v1/slow").items())
    both = f"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{slow}\r\n"
    with connect(hasty) as connection:
        connection.sendall(both.encode())
        answers = connection.makefile("rb").read()

    assert answers.count(b"HTTP/1.1 200 OK") == 2


def test_a_body_for_an_open_path_holds_nothing(hasty: RunningAxon) -> None:
    with connect(hasty) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        wait_until_closed(connection)


def test_hundreds_of_idle_connections_keep_no_caller_out_and_all_are_dropped(hasty: RunningAxon) -> None:
    with ExitStack() as open_ones:
        idle = [open_ones.enter_context(closing(connect(hasty, source=f"127.0.1.{n % 6 + 1}"))) for n in range(300)]

        assert get(hasty, "/v1/file").status_code == 200
        assert all(is_closed(connection) for connection in idle)


def test_an_address_has_so_many_connections_and_gets_them_back(start_axon: StartAxon) -> None:
    axon = start_axon(limits=replace(LIMITS, connections_per_address=3))
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(closing(connect(axon)))
        with connect(axon) as fourth:
            assert is_closed(fourth)

    ends = time.monotonic() + PATIENCE
    while not serves(axon):  # it hears of an end when it comes to it
        assert time.monotonic() < ends


def serves(axon: RunningAxon) -> bool:
    try:
        return get(axon, "/v1/file").status_code == 200
    except httpx.TransportError:
        return False


def test_a_websocket_does_not_get_around_the_count_of_connections(start_axon: StartAxon) -> None:
    axon = start_axon(limits=replace(LIMITS, connections_per_address=3))
    upgrade = (
        b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    answers, ends = list[bytes](), time.monotonic() + PATIENCE
    while len(answers) < 6 and time.monotonic() < ends:  # the axon may hear of an end after the next has come
        with connect(axon) as connection, suppress(ConnectionResetError):
            connection.sendall(upgrade)
            answers += [answer] if (answer := connection.recv(15)) else []

    assert answers == [b"HTTP/1.1 200 OK"] * 6  # an ordinary answer: nothing was upgraded, and nothing has leaked


# ---- requests a minute


def test_a_caller_has_so_many_requests_and_no_more(start_axon: StartAxon) -> None:
    axon = start_axon(limits=replace(LIMITS, requests_per_minute=3))

    statuses = [get(axon, "/v1/nowhere").status_code for _ in range(4)]

    assert statuses == [404, 404, 404, 429]


def test_one_address_has_so_many_requests_whoever_it_says_it_is(start_axon: StartAxon) -> None:
    axon = start_axon(limits=replace(LIMITS, requests_per_minute=2))  # 8 of an address

    answers = list[httpx.Response]()
    while len(answers) < 9 or (answers[-1].status_code == 401 and len(answers) < 100):  # one more in 7.5 s
        answers.append(httpx.get(axon.address.url("/v1/file"), timeout=PATIENCE, verify=False))

    assert {answer.status_code for answer in answers[:8]} == {401}
    assert answers[-1].status_code == 429
    assert answers[-1].json()["code"] == "rate_limited"


def test_a_forger_does_not_use_up_what_a_caller_may_ask_for(start_axon: StartAxon) -> None:
    axon = start_axon(limits=replace(LIMITS, requests_per_minute=3))
    forged = {**axon.signed_headers("/v1/nowhere"), "X-Bittensor-Signature": "0x" + "01" * 64}
    for _ in range(5):
        assert (
            httpx.get(axon.address.url("/v1/nowhere"), headers=forged, timeout=PATIENCE, verify=False).status_code
            == 401
        )

    assert get(axon, "/v1/nowhere").status_code == 404


# ---- files


SIZE = len(CONTENT)
# Range header -> first byte, byte after the last
RANGES = {
    "bytes=0-0": (0, 1),
    "bytes=1-": (1, SIZE),
    "bytes=5-99": (5, 100),
    f"bytes={SIZE - 1}-": (SIZE - 1, SIZE),
    "bytes=300000-600000": (300_000, 600_001),
    f"bytes=10-{SIZE * 2}": (10, SIZE),  # an end behind the end is the end, as HTTP has it
}


def test_a_file_comes_whole(axon: RunningAxon) -> None:
    answer = get(axon, "/v1/file")

    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["ETag"] == f'"{hashlib.sha256(CONTENT).hexdigest()}"'


@pytest.mark.parametrize("asked", RANGES)
def test_a_range_of_a_file_is_exactly_that_range(asked: str, axon: RunningAxon) -> None:
    begin, end = RANGES[asked]

    answer = get(axon, "/v1/file", Range=asked)

    assert (answer.status_code, answer.content) == (206, CONTENT[begin:end])
    assert answer.headers["Content-Range"] == f"bytes {begin}-{end - 1}/{SIZE}"


@pytest.mark.parametrize(
    "asked",
    [
        f"bytes={SIZE}-",
        "bytes=9-8",
        "bytes=-5",
        "bytes=-",
        "bytes=0-1,5-6",
        "bytes=0-1, bytes=5-6",
        "items=0-5",
        "bytes=a-b",
        "bytes=-1-5",
        "bytes= 1-5",
        "bytes=" + "9" * 5000 + "-",
        "bytes=0-" + "9" * 5000,
    ],
    ids=lambda asked: asked[:24],
)
def test_a_range_that_is_not_one_span_within_the_file_is_refused(asked: str, axon: RunningAxon) -> None:
    answer = get(axon, "/v1/file", Range=asked)

    assert (answer.status_code, answer.json()["code"]) == (416, "range_refused")


# ---- what a failure gives away


def test_a_route_that_breaks_tells_nothing_of_why(axon: RunningAxon) -> None:
    answer = get(axon, "/v1/broken")

    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [("/v1/nowhere", "GET", 404, "not_found"), ("/v1/file", "DELETE", 405, "method_not_allowed")],
)
def test_what_is_not_there_is_refused_with_a_code(
    path: str, method: str, status: int, code: str, axon: RunningAxon
) -> None:
    headers = axon.signed_headers(path, method=method)

    answer = httpx.request(method, axon.address.url(path), headers=headers, verify=False)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
