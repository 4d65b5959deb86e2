"""Who gets past an axon's door: one table of requests that are wrong in one thing each."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import httpx
import pytest
from bittensor import http_auth

from gradients.axon.auth import ALLOWED_SKEW_SECONDS, MAX_AGE_SECONDS, Nonces
from gradients.testing.axons import HOST, RunningAxon, StartAxon, keypair_of

BODY = b'{"text":"hello"}'
OURS = keypair_of("axon").ss58_address


@dataclass(frozen=True)
class Sent:
    """A request as it goes over the wire."""

    method: str
    target: str
    body: bytes
    headers: tuple[tuple[str, str], ...]

    def header(self, name: str, value: str | None) -> Sent:
        """With another value of one header, or without it."""
        rest = tuple(pair for pair in self.headers if pair[0] != name)
        return replace(self, headers=rest if value is None else (*rest, (name, value)))

    def twice(self, name: str, value: str | None = None) -> Sent:
        """With one header standing twice, the same or with another second value."""
        first = dict(self.headers)[name]
        return replace(self, headers=(*self.headers, (name, first if value is None else value)))


def signed(
    keypair: object = None,
    *,
    method: str = "POST",
    target: str = "/v1/echo",
    body: bytes = BODY,
    receiver: str | None = OURS,
    age_seconds: float = 0.0,
) -> Sent:
    """A request that is in order unless told otherwise."""
    headers = http_auth.sign(
        keypair or keypair_of("validator"),
        method=method,
        path=target,
        body=body,
        receiver_ss58=receiver,
        nonce_ns=time.time_ns() - int(age_seconds * 1e9),
    )
    return Sent(method, target, body, tuple(headers.items()))


def send(request: Sent, port: int) -> httpx.Response:
    """The answer to the request, exactly as it is: targets are not normalised, headers not merged."""
    kind = [] if not request.body else [("Content-Type", "application/json")]
    with httpx.Client(timeout=120, verify=False) as client:
        return client.request(
            request.method,
            f"http://{HOST}:{port}",
            content=request.body,
            headers=[*request.headers, *kind],
            extensions={"target": request.target.encode()},
        )


VERSION, HOTKEY, RECEIVER = http_auth.HEADER_VERSION, http_auth.HEADER_HOTKEY, http_auth.HEADER_RECEIVER
NONCE, SIGNATURE, CRYPTO = http_auth.HEADER_NONCE, http_auth.HEADER_SIGNATURE, http_auth.HEADER_CRYPTO
OTHER = keypair_of("somebody")
LATE = MAX_AGE_SECONDS + 1
EARLY = -(ALLOWED_SKEW_SECONDS + 600)  # far enough ahead, however long the request is on its way

# what is wrong -> (the request, status, code)
REFUSED: dict[str, tuple[Callable[[], Sent], int, str]] = {
    "no header at all": (lambda: replace(signed(), headers=()), 401, "MalformedAuth"),
    "no version": (lambda: signed().header(VERSION, None), 401, "MalformedAuth"),
    "another version": (lambda: signed().header(VERSION, "2"), 401, "MalformedAuth"),
    "no hotkey": (lambda: signed().header(HOTKEY, None), 401, "MalformedAuth"),
    "no nonce": (lambda: signed().header(NONCE, None), 401, "MalformedAuth"),
    "a nonce that is not a number": (lambda: signed().header(NONCE, "now"), 401, "MalformedAuth"),
    "a nonce of 5,000 digits": (lambda: signed().header(NONCE, "9" * 5000), 401, "MalformedAuth"),
    "a negative nonce": (lambda: signed().header(NONCE, "-1"), 401, "StaleRequest"),
    "another nonce than signed": (lambda: signed().header(NONCE, str(time.time_ns())), 401, "BadSignature"),
    "no signature": (lambda: signed().header(SIGNATURE, None), 401, "MalformedAuth"),
    "an empty signature": (lambda: signed().header(SIGNATURE, ""), 401, "MalformedAuth"),
    "a signature that is not hex": (lambda: signed().header(SIGNATURE, "0xzz"), 401, "MalformedAuth"),
    "a signature of 63 bytes": (lambda: signed().header(SIGNATURE, "0x" + "01" * 63), 401, "MalformedAuth"),
    "a signature of zeros": (lambda: signed().header(SIGNATURE, "0x" + "00" * 64), 401, "BadSignature"),
    "somebody else's signature": (
        lambda: signed(OTHER).header(HOTKEY, keypair_of("validator").ss58_address),
        401,
        "BadSignature",
    ),
    "no receiver": (lambda: signed().header(RECEIVER, None), 401, "WrongReceiver"),
    "signed for nobody in particular": (lambda: signed(receiver=None), 401, "WrongReceiver"),
    "signed for another axon": (lambda: signed(receiver=OTHER.ss58_address), 401, "WrongReceiver"),
    "readdressed to us": (lambda: signed(receiver=OTHER.ss58_address).header(RECEIVER, OURS), 401, "BadSignature"),
    "another body": (lambda: replace(signed(), body=BODY + b" "), 401, "BadSignature"),
    "no body": (lambda: replace(signed(), body=b""), 401, "BadSignature"),
    "another path": (lambda: replace(signed(target="/v1/other"), target="/v1/echo"), 401, "BadSignature"),
    "the same path spelt otherwise": (lambda: replace(signed(), target="/v1/%65cho"), 401, "BadSignature"),
    "another query": (lambda: replace(signed(target="/v1/echo?a=1"), target="/v1/echo?a=2"), 401, "BadSignature"),
    "a query that was not signed": (lambda: replace(signed(), target="/v1/echo?a=1"), 401, "BadSignature"),
    "another method": (lambda: replace(signed(method="GET"), method="POST"), 401, "BadSignature"),
    "one of our own answers": (lambda: replace(signed(method="RESPONSE"), method="POST"), 401, "BadSignature"),
    "too old": (lambda: signed(age_seconds=LATE), 401, "StaleRequest"),
    "from the future": (lambda: signed(age_seconds=EARLY), 401, "StaleRequest"),
    "the scheme named": (lambda: signed().header(CRYPTO, "sr25519"), 401, "MalformedAuth"),
    "another scheme": (lambda: signed(keypair_of("validator", crypto_type=0)), 401, "MalformedAuth"),
    "ed25519 without saying so": (
        lambda: signed(keypair_of("validator", crypto_type=0)).header(CRYPTO, None),
        403,
        "not_registered",
    ),
    "the version twice": (lambda: signed().twice(VERSION), 401, "MalformedAuth"),
    "the hotkey twice": (lambda: signed().twice(HOTKEY), 403, "not_registered"),
    "a registered hotkey behind one's own": (
        lambda: signed(OTHER).twice(HOTKEY, keypair_of("validator").ss58_address),
        403,
        "not_registered",
    ),
    "the nonce twice": (lambda: signed().twice(NONCE), 401, "MalformedAuth"),
    "the signature twice": (lambda: signed().twice(SIGNATURE), 401, "MalformedAuth"),
    "the receiver twice": (lambda: signed().twice(RECEIVER), 401, "WrongReceiver"),
    "a hotkey that is not an address": (lambda: signed().header(HOTKEY, "5" + "x" * 47), 403, "not_registered"),
    "a hotkey of a thousand letters": (lambda: signed().header(HOTKEY, "5" * 1000), 403, "not_registered"),
    "an unregistered caller": (lambda: signed(OTHER), 403, "not_registered"),
    "a miner, without a permit": (lambda: signed(keypair_of("miner")), 403, "no_permit"),
    "a validator with too little stake": (lambda: signed(keypair_of("poor")), 403, "stake_too_low"),
    "a way around by an open path": (lambda: replace(signed(), target="/livez/../v1/echo"), 401, "BadSignature"),
    "an open path with a tail": (lambda: Sent("GET", "/livez/", b"", ()), 401, "MalformedAuth"),
}


def test_a_request_in_order_is_answered(axon: RunningAxon) -> None:
    answer = send(signed(), axon.address.port)

    assert (answer.status_code, answer.json()) == (200, {"text": "hello"})


@pytest.mark.parametrize("what", REFUSED)
def test_a_request_is_refused_when_one_thing_is_wrong(what: str, axon: RunningAxon) -> None:
    request, status, code = REFUSED[what]

    answer = send(request(), axon.address.port)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_refusal_echoes_no_signature_and_names_no_machine(axon: RunningAxon) -> None:
    request = signed(OTHER)

    answer = send(request, axon.address.port)

    assert dict(request.headers)[SIGNATURE] not in answer.text
    assert "server" not in answer.headers


def test_a_nonce_is_taken_once(axon: RunningAxon) -> None:
    request = signed()

    first, second = send(request, axon.address.port), send(request, axon.address.port)

    assert first.status_code == 200
    assert (second.status_code, second.json()["code"]) == (401, "ReplayedRequest")


def test_a_nonce_spelt_otherwise_is_the_same_nonce(axon: RunningAxon) -> None:
    request = signed()
    send(request, axon.address.port)

    again = send(request.header(NONCE, f"+{dict(request.headers)[NONCE]}"), axon.address.port)

    assert (again.status_code, again.json()["code"]) == (401, "ReplayedRequest")


def test_a_nonce_is_not_spent_by_a_request_that_is_refused(axon: RunningAxon) -> None:
    request = signed()
    send(replace(request, body=b"forged"), axon.address.port)

    assert send(request, axon.address.port).status_code == 200


def test_a_request_from_before_a_restart_is_not_taken_again(start_axon: StartAxon) -> None:
    request = signed()
    before = start_axon()
    assert send(request, before.address.port).status_code == 200

    after = start_axon(nonces=Nonces())
    again = send(request, after.address.port)

    assert (again.status_code, again.json()["code"]) == (401, "ReplayedRequest")


def test_after_a_restart_callers_are_answered_when_the_skew_is_over(start_axon: StartAxon) -> None:
    started = time.time_ns() - int((ALLOWED_SKEW_SECONDS + 0.1) * 1e9)
    axon = start_axon(nonces=Nonces(started_ns=started))

    assert send(signed(), axon.address.port).status_code == 200


def test_forgers_do_not_fill_the_memory_of_nonces(start_axon: StartAxon) -> None:
    class Counting(Nonces):
        stored = 0

        def check_and_store(self, hotkey_ss58: str, nonce_ns: int) -> bool:
            self.stored += 1
            return super().check_and_store(hotkey_ss58, nonce_ns)

    nonces = Counting(started_ns=0)
    axon = start_axon(nonces=nonces)
    forged = "0x" + "01" * 64

    statuses = {send(signed().header(SIGNATURE, forged), axon.address.port).status_code for _ in range(50)}

    assert statuses == {401}
    assert nonces.stored == 0
    assert send(signed(), axon.address.port).status_code == 200


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"X-Bittensor-Hotkey: " + OTHER.ss58_address.encode(),
        b"X-Bittensor-Hotkey: " + keypair_of("miner").ss58_address.encode(),
        b"X-Bittensor-Hotkey: " + keypair_of("poor").ss58_address.encode(),
    ],
    ids=["nobody", "unregistered", "without a permit", "with too little stake"],
)
def test_who_may_not_call_is_turned_away_before_the_body_is_read(head: bytes, axon: RunningAxon) -> None:
    request = b"POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n" + head + b"\r\n\r\n"

    with socket.create_connection((HOST, axon.address.port), timeout=120) as connection:
        connection.sendall(request)
        answer = connection.makefile("rb").readline()

    assert answer.split()[1] in (b"401", b"403")  # and not 408, as for a body that does not come


def test_a_body_is_refused_by_its_announced_size_before_it_is_sent(axon: RunningAxon) -> None:
    head = b"".join(f"{name}: {value}\r\n".encode() for name, value in signed().headers)
    request = b"POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n" + head + b"\r\n"

    with socket.create_connection((HOST, axon.address.port), timeout=120) as connection:
        connection.sendall(request)
        answer = connection.makefile("rb").read()

    assert answer.split()[1] == b"413"
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "body_too_large"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 200_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: \xb2\r\n\r\n",
        b"GET /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /v1/echo HTTP/1.1\r\nHost: x\r\nX-Bittensor-Hotkey: a\x00b\r\n\r\n",
        b"GET /v1/\xc3\xa9cho HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    ],
    ids=["endless header", "TLS", "negative length", "superscript length", "two lengths", "NUL", "raw UTF-8", "gzip"],
)
def test_what_is_no_http_is_refused_and_the_axon_goes_on(request_bytes: bytes, axon: RunningAxon) -> None:
    status = 400  # also where the axon has hung up before everything was sent
    with (
        socket.create_connection((HOST, axon.address.port), timeout=120) as connection,
        contextlib.suppress(ConnectionError),
    ):
        connection.sendall(request_bytes)
        status = int((connection.makefile("rb").readline().split() or [b"", b"0"])[1])

    assert 400 <= status < 500 or status == 501
    assert send(signed(), axon.address.port).status_code == 200
