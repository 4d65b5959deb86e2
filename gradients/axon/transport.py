"""The layer between the socket and the routes: limits before hashing, signed requests in, signed answers out.

Pure ASGI, so that nothing of a body is read before its size and its claimed sender are known to be acceptable. Then it comes in whole,
within its limits, and is verified.
Answers are signed over status, request nonce, target and body; a file's answer is signed over its digest and range instead, and its bytes
are checked against the digest by whoever asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bittensor import http_auth
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gradients.axon.auth import (
    HEADER_HOTKEY,
    HEADER_NONCE,
    CallerPolicy,
    Forbidden,
    NoncesUnavailable,
    Unauthenticated,
    answer_target,
    claimed_caller,
    verify_request,
)
from gradients.axon.limits import RateLimiter, ServerLimits
from gradients.axon.messages import Refusal
from gradients.axon.refusals import RefusalLog
from gradients.errors import Blame, GradientsError, PeerRefused

ANSWER_METHOD = "RESPONSE"  # not an HTTP method, so a signed answer is never a valid request
HEADER_FILE = "x-gradients-file"  # "<sha256> <content-range or ->" of a streamed file
CALLER_KEY = "gradients_caller"


class TooMany(PeerRefused):
    """One request too many."""

    default_code = "rate_limited"


class TooLarge(PeerRefused):
    """The request's body is larger than any message."""

    default_code = "body_too_large"


class TooSlow(PeerRefused):
    """The request's body did not come in time."""

    default_code = "body_too_slow"


class RangeRefused(PeerRefused):
    """The file has no such range."""

    default_code = "range_refused"


_STATUS_OF: Mapping[type[GradientsError], int] = {
    Unauthenticated: 401,
    Forbidden: 403,
    TooSlow: 408,
    TooLarge: 413,
    RangeRefused: 416,
    TooMany: 429,
    NoncesUnavailable: 503,
}


def status_of(error: GradientsError) -> int:
    """The HTTP status of a refusal."""
    return _STATUS_OF.get(type(error), 500 if error.blame is Blame.OPERATOR else 409)


@dataclass
class SignedTransport:
    """Wraps an application; every route but the open ones is for authenticated callers only."""

    app: ASGIApp
    keypair: Any  # bittensor's Keypair, or anything that its http_auth can sign with
    policy: CallerPolicy
    nonces: http_auth.NonceStore
    limits: ServerLimits
    open_paths: frozenset[str]
    callers: RateLimiter = field(init=False)
    addresses: RateLimiter = field(init=False)
    refusals: RefusalLog = field(default_factory=RefusalLog)

    def __post_init__(self) -> None:
        self.callers = RateLimiter(self.limits.requests_per_minute)
        self.addresses = RateLimiter(self.limits.requests_per_minute * 4)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self.open_paths:
            await self.app(scope, receive, send)
            return
        request = _Request.of(scope)
        answer = _Answer(request, self.keypair, send)
        try:
            body = await self._admitted_body(scope, request, receive)
        except GradientsError as error:
            self.refusals.tell(error, request.headers, now=time.monotonic())
            await answer.refuse(error)
            return
        await self.app(scope, _replay(body, receive), answer.send)

    async def _admitted_body(self, scope: Scope, request: _Request, receive: Receive) -> bytes:
        """The body of a request that may go on; the caller is in the scope's state then."""
        client = scope.get("client")
        now = time.monotonic()
        if client and not self.addresses.allows(client[0], now=now):
            raise TooMany("Too many requests from your address", fix="Slow down")
        caller = claimed_caller(request.headers, self.policy)
        body = await _read_body(request, receive, self.limits)
        verify_request(
            request.headers,
            body,
            method=request.method,
            target=request.target,
            our_hotkey=self.keypair.ss58_address,
            nonces=self.nonces,
        )
        if not self.callers.allows(caller.hotkey, now=now):
            raise TooMany("Too many requests", fix="Slow down")
        scope.setdefault("state", {})[CALLER_KEY] = caller
        return body


@dataclass(frozen=True, slots=True)
class _Request:
    """What of a request is signed, as it was sent."""

    method: str
    target: str
    headers: Mapping[str, str]

    @classmethod
    def of(cls, scope: Scope) -> _Request:
        query = scope["query_string"].decode("latin-1")
        target = scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
        headers: dict[str, str] = {}
        for raw_name, raw_value in scope["headers"]:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            # What stands twice is joined by a comma, so that nobody can choose which one counts.
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return cls(scope["method"], target, headers)


async def _read_body(request: _Request, receive: Receive, limits: ServerLimits) -> bytes:
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > limits.body_bytes:
        raise TooLarge(f"A request has at most {limits.body_bytes:,} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            while True:
                message = await receive()
                body += message.get("body", b"")
                if len(body) > limits.body_bytes:
                    raise TooLarge(f"A request has at most {limits.body_bytes:,} bytes")
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError as error:
        raise TooSlow(f"The body was not here after {limits.body_seconds:g} s") from error


def _replay(body: bytes, receive: Receive) -> Receive:
    """A receive that gives the body, which was read already, and then what comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


class _Answer:
    """Holds an answer back until it can be signed."""

    def __init__(self, request: _Request, keypair: Any, send: Send) -> None:  # noqa: ANN401 (see SignedTransport)
        self._request = request
        self._keypair = keypair
        self._send = send
        self._start: Message | None = None
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        """The application's send."""
        if message["type"] == "http.response.start":
            self._start = message
            headers = {name.lower(): value for name, value in message.get("headers", [])}
            if (signed := headers.get(HEADER_FILE.encode())) is not None:
                await self._send_start(signed)
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                body = bytes(self._body)
                await self._send_start(body)
                await self._send({"type": "http.response.body", "body": body})

    async def refuse(self, error: GradientsError) -> None:
        """An answer that turns the caller away; the connection is closed, since its body may not have been read."""
        body = Refusal(code=error.code, message=str(error)).model_dump_json().encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": status_of(error), "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    async def _send_start(self, signed: bytes) -> None:
        assert self._start is not None  # noqa: S101 (for the type checker: set by `send`)
        target = answer_target(
            target=self._request.target,
            nonce=self._request.headers.get(HEADER_NONCE, "-"),
            status=self._start["status"],
        )
        receiver = self._request.headers.get(HEADER_HOTKEY)
        signature = http_auth.sign(
            self._keypair, method=ANSWER_METHOD, path=target, body=signed, receiver_ss58=receiver
        )
        extra = [(name.lower().encode(), value.encode("latin-1")) for name, value in signature.items()]
        await self._send({**self._start, "headers": [*self._start.get("headers", []), *extra]})
        self._start = None
