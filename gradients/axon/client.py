"""Calls peers' axons: signs each request, checks each answer's signature, and never waits longer or takes more than its limits.

Whose fault: an answer that the peer has not signed might be anybody's, so it counts as none (PeerUnreachable). Only what it has signed
can be held against it (PeerMisbehaved). The chain takes nearly any address, so whoever calls must choose: public IP addresses and ports
from 1024 on, private ones on a local network only. What answers at a public address is not covered.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from bittensor import http_auth
from pydantic import BaseModel, ValidationError

from gradients.axon.auth import HEADER_HOTKEY, HEADER_NONCE, answer_target
from gradients.axon.evidence import SignedAnswer
from gradients.axon.limits import ClientLimits
from gradients.axon.messages import Refusal
from gradients.axon.signatures import verify_signature
from gradients.axon.transport import ANSWER_METHOD, HEADER_FILE
from gradients.domain.addresses import may_be_called
from gradients.domain.chain import AxonAddress
from gradients.domain.task import Hotkey
from gradients.errors import PeerMisbehaved, PeerRefused, PeerUnreachable

LOWEST_PORT, HIGHEST_PORT = 1024, 65535  # of a peer

Answer = TypeVar("Answer", bound=BaseModel)
# Peers that hold on to a connection must not keep others waiting for one; idle ones are let go of before any axon does.
_POOL = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=2.0)


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody with an axon."""

    hotkey: Hotkey
    address: AxonAddress


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked of whom, signed."""

    peer: Peer
    method: str
    path: str
    body: bytes
    headers: Mapping[str, str]

    @property
    def url(self) -> str:
        return self.peer.address.url(self.path)


def check_address(address: AxonAddress, *, allow_private: bool) -> None:
    """Raises PeerUnreachable for an address that is not to be called; `allow_private` is for local networks."""
    allowed = may_be_called(address.ip, allow_private=allow_private)
    if not (allowed and LOWEST_PORT <= address.port <= HIGHEST_PORT):
        raise PeerUnreachable(f"{address.url()[:96]} is not an address that peers may have", code="address_refused")


class AxonClient:
    """Speaks for one hotkey. Raises PeerUnreachable, PeerRefused and PeerMisbehaved."""

    def __init__(self, keypair: Any, *, allow_private: bool, limits: ClientLimits = ClientLimits()) -> None:  # noqa: ANN401, B008
        self._keypair = keypair
        self._allow_private = allow_private
        self._limits = limits
        timeout = httpx.Timeout(limits.stall_seconds, connect=limits.connect_seconds)
        self._http = httpx.AsyncClient(timeout=timeout, limits=_POOL, follow_redirects=False, trust_env=False)

    async def close(self) -> None:
        """Let go of all connections."""
        await self._http.aclose()

    async def post(self, peer: Peer, path: str, message: BaseModel, *, answer: type[Answer]) -> Answer:
        """The peer's answer to `message`."""
        request = self._signed(peer, "POST", path, message.model_dump_json().encode())
        return (await self._answer(request, answer))[0]

    async def get(self, peer: Peer, path: str, *, answer: type[Answer]) -> Answer:
        """The peer's answer to a question without a body."""
        return (await self.get_signed(peer, path, answer=answer))[0]

    async def get_signed(self, peer: Peer, path: str, *, answer: type[Answer]) -> tuple[Answer, SignedAnswer]:
        """The peer's answer to a question without a body, and with it what proves to others that the peer gave it."""
        return await self._answer(self._signed(peer, "GET", path), answer)

    @contextlib.asynccontextmanager
    async def stream(self, peer: Peer, path: str, *, offset: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        """A file's bytes from `offset` on. They are as trustworthy as the digest that the reader compares them with."""
        request = self._signed(peer, "GET", path)
        async with self._sent(request, {"Range": f"bytes={offset}-"} if offset else {}) as response:
            if not response.is_success:
                _raise_refusal(peer, response, await self._read(response))
            file = response.headers.get(HEADER_FILE, "")
            self._check_answer(request, response, file.encode())
            if not file.partition(" ")[2].startswith(f"bytes {offset}-" if offset else "-"):
                raise PeerMisbehaved(f"{peer.hotkey} sent another range than was asked for", code="range_mismatch")
            yield _chunks(peer, response)

    def _signed(self, peer: Peer, method: str, path: str, body: bytes = b"") -> _Request:
        check_address(peer.address, allow_private=self._allow_private)
        headers = dict(http_auth.sign(self._keypair, method=method, path=path, body=body, receiver_ss58=peer.hotkey))
        return _Request(peer, method, path, body, headers)

    async def _answer(self, request: _Request, answer: type[Answer]) -> tuple[Answer, SignedAnswer]:
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                kind = {"Content-Type": "application/json"} if request.body else {}
                async with self._sent(request, kind) as response:
                    content = await self._read(response)
        except TimeoutError as error:
            raise PeerUnreachable(f"{request.url} did not answer in {self._limits.answer_seconds:g} s") from error
        _raise_refusal(request.peer, response, content)
        target = self._check_answer(request, response, content)
        try:
            return answer.model_validate_json(content), SignedAnswer.of(response.headers, content, target=target)
        except ValidationError as error:
            raise PeerMisbehaved(
                f"{request.peer.hotkey} sent something that is not a valid {answer.__name__}: {error.errors()[0]['msg']}"
            ) from error

    @contextlib.asynccontextmanager
    async def _sent(self, request: _Request, more_headers: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        headers = {**request.headers, **more_headers, "Accept-Encoding": "identity"}
        try:
            async with self._http.stream(
                request.method, request.url, content=request.body, headers=headers
            ) as response:
                yield response
        except httpx.HTTPError as error:
            raise PeerUnreachable(f"{request.url} cannot be reached: {error or type(error).__name__}") from error

    async def _read(self, response: httpx.Response) -> bytes:
        content = bytearray()
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > self._limits.answer_bytes:
                raise PeerUnreachable(
                    f"An answer has at most {self._limits.answer_bytes:,} bytes", code="answer_too_large"
                )
        return bytes(content)

    def _check_answer(self, request: _Request, response: httpx.Response, content: bytes) -> str:
        """What stands in the path's place. Raises PeerUnreachable unless the peer has signed this very answer to this very request."""
        peer = request.peer
        nonce = {name.lower(): value for name, value in request.headers.items()}[HEADER_NONCE]
        target = answer_target(target=request.path, nonce=nonce, status=response.status_code)
        if response.headers.get(HEADER_HOTKEY) != peer.hotkey:
            raise PeerUnreachable(f"The answer is not signed by {peer.hotkey}", code="answer_unsigned")
        try:
            verify_signature(
                response.headers,
                content,
                method=ANSWER_METHOD,
                path=target,
                receiver=self._keypair.ss58_address,
                nonces=http_auth.InMemoryNonceStore(),
            )
        except http_auth.StaleRequest as error:
            raise PeerUnreachable(f"The clocks of {peer.hotkey} and ours are too far apart: {error}") from error
        except http_auth.AuthError as error:
            raise PeerUnreachable(
                f"The answer of {peer.hotkey} is badly signed: {error}", code="answer_unsigned"
            ) from error
        return target


async def _chunks(peer: Peer, response: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.aiter_raw():
            yield chunk
    except httpx.HTTPError as error:
        raise PeerUnreachable(f"{peer.address.url()} broke off: {error or type(error).__name__}") from error


def _raise_refusal(peer: Peer, response: httpx.Response, content: bytes) -> None:
    """Raises PeerRefused for any answer that is not a success."""
    if response.is_success:
        return
    try:
        refusal = Refusal.model_validate_json(content)
    except ValidationError:
        raise PeerRefused(
            f"{peer.address.url()} answered {response.status_code}", code=f"http_{response.status_code}"
        ) from None
    raise PeerRefused(refusal.message[:500], code=refusal.code[:64])
