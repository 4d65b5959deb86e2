"""Who calls, and whether they may: btauth/1 signatures, and the metagraph as the list of who is known.

Order, cheapest first: whether the claimed hotkey may call at all, before its body is read; then the shape of the headers, the receiver and
the age, before the body is hashed; then the signature, then replay. Covers: strangers, replays in this process and from before its start,
requests meant for somebody else. Does not cover: confidentiality (put TLS in front).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bittensor import http_auth

from gradients.axon.signatures import verify_signature
from gradients.domain.chain import Metagraph
from gradients.domain.task import Hotkey
from gradients.errors import OutsideError, PeerRefused, SetupError
from gradients.extras import how_to_install

if TYPE_CHECKING:
    from redis import Redis

MAX_AGE_SECONDS = 10.0
ALLOWED_SKEW_SECONDS = 2.0
TIMEOUT_SECONDS = 2.0  # of a shared store of nonces
HEADER_CRYPTO = "x-bittensor-crypto"
HEADER_HOTKEY = "x-bittensor-hotkey"
HEADER_NONCE = "x-bittensor-nonce"
HEADER_SIGNATURE = "x-bittensor-signature"


class Unauthenticated(PeerRefused):
    """The request is not signed by whom it claims, not for us, too old, or seen before."""

    default_code = "unauthenticated"


class NoncesUnavailable(OutsideError):
    """The server that remembers nonces does not answer, so nobody can be let in."""

    default_code = "nonces_unavailable"


class Forbidden(PeerRefused):
    """The caller is known or unknown, but may not do this."""

    default_code = "forbidden"


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody with a registered hotkey."""

    hotkey: Hotkey
    uid: int
    validator_permit: bool
    stake_alpha: float


class CallerPolicy(Protocol):
    """Who may call."""

    def admit(self, hotkey: str) -> Caller:
        """The caller with this hotkey. Raises Forbidden."""
        ...


@dataclass(frozen=True, slots=True)
class MetagraphPolicy:
    """Registered hotkeys may call; with `validators_only`, those with a permit and enough stake."""

    metagraph: Callable[[], Metagraph]
    validators_only: bool = False
    min_stake_alpha: float = 0.0

    def admit(self, hotkey: str) -> Caller:
        try:
            neuron = self.metagraph().by_hotkey(hotkey)
        except OutsideError as error:
            raise Forbidden(
                f"Who is registered is not known at the moment: {error}", code="metagraph_unknown"
            ) from error
        if neuron is None:
            raise Forbidden(f"{hotkey[:48]} is not registered on this subnet", code="not_registered")
        if self.validators_only and not neuron.validator_permit:
            raise Forbidden(f"uid {neuron.uid} has no validator permit", code="no_permit")
        if self.validators_only and neuron.stake_alpha < self.min_stake_alpha:
            raise Forbidden(
                f"uid {neuron.uid} has less than {self.min_stake_alpha:g} alpha of stake", code="stake_too_low"
            )
        return Caller(neuron.hotkey, neuron.uid, neuron.validator_permit, neuron.stake_alpha)


class Nonces:
    """Replay protection within a process and across its restart: nonces from before the start are refused.

    Together with the allowed skew this means that an axon answers nobody in its first two seconds, and needs no store on disk.
    """

    retention = 60.0

    def __init__(self, *, started_ns: int | None = None) -> None:
        self._seen = http_auth.InMemoryNonceStore(retention=self.retention)
        started = time.time_ns() if started_ns is None else started_ns
        self._earliest_ns = started + int(ALLOWED_SKEW_SECONDS * 1e9)

    def check_and_store(self, hotkey_ss58: str, nonce_ns: int) -> bool:
        """Whether the nonce is new."""
        return nonce_ns >= self._earliest_ns and bool(self._seen.check_and_store(hotkey_ss58, nonce_ns))


def redis_at(url: str, *, setting: str, timeout_seconds: float) -> tuple[Redis, type[Exception]]:
    """The server at a setting's URL, which nobody has asked yet, and what its calls raise when it is away.

    Raises SetupError when the package redis is missing or the URL is not a Redis URL.
    """
    try:
        import redis
    except ModuleNotFoundError as error:
        raise SetupError(f"{setting} needs the package redis", fix=how_to_install("redis")) from error
    try:
        server = redis.Redis.from_url(url, socket_timeout=timeout_seconds, socket_connect_timeout=timeout_seconds)
    except ValueError as error:
        raise SetupError(f"{setting} is not a Redis URL: {error}", fix="Write redis://host:port/0") from error
    return server, redis.RedisError


class RedisNonces:
    """Replay protection for several processes behind one hotkey: SET NX EX on a shared server.

    Nothing is lost when the server restarts but the memory of the last seconds; requests are refused while it is away. It is asked
    on the event loop: it has to stand near by (0.2 ms on one machine), and one that hangs costs TIMEOUT_SECONDS a request.
    """

    retention = 60.0

    def __init__(self, url: str) -> None:
        """Raises SetupError when the package redis is missing or the URL is not a Redis URL."""
        self._server, self._failure = redis_at(url, setting="axon.nonces_url", timeout_seconds=TIMEOUT_SECONDS)

    def check_and_store(self, hotkey_ss58: str, nonce_ns: int) -> bool:
        """Whether the nonce is new to every process."""
        key = f"gradients:nonce:{hotkey_ss58}:{nonce_ns}"
        try:
            return bool(self._server.set(key, b"1", nx=True, ex=int(self.retention)))
        except self._failure as error:
            raise NoncesUnavailable("Whether the request is a replay cannot be told at the moment") from error


def nonces_at(url: str | None) -> http_auth.NonceStore:
    """This process's own memory, or the one that it shares at a Redis URL. Raises SetupError."""
    return RedisNonces(url) if url else Nonces()


def claimed_caller(headers: Mapping[str, str], policy: CallerPolicy) -> Caller:
    """Whom the request says that it is from, if they may call; not verified yet. Raises Forbidden or Unauthenticated.

    Args:
        headers: lower-case names; a header that stands twice is one value with a comma, which no check passes.
    """
    if HEADER_HOTKEY not in headers:
        raise Unauthenticated("The request is not signed", code="MalformedAuth")
    if HEADER_CRYPTO in headers:
        raise Unauthenticated("Only sr25519 signatures are accepted", code="MalformedAuth")
    return policy.admit(headers[HEADER_HOTKEY])


def verify_request(
    headers: Mapping[str, str],
    body: bytes,
    *,
    method: str,
    target: str,
    our_hotkey: str,
    nonces: http_auth.NonceStore,
) -> None:
    """Raises Unauthenticated unless the claimed caller has signed this request, for us, just now, and for the first time.

    Args:
        headers: lower-case names.
        target: path and query exactly as they were sent.
    """
    try:
        verify_signature(
            headers,
            body,
            method=method,
            path=target,
            receiver=our_hotkey,
            nonces=nonces,
            max_age_seconds=MAX_AGE_SECONDS,
            allowed_skew_seconds=ALLOWED_SKEW_SECONDS,
        )
    except http_auth.AuthError as error:
        raise Unauthenticated(str(error), code=type(error).__name__) from error


def answer_target(*, target: str, nonce: str, status: int) -> str:
    """What an answer is signed over in the place of a path, so that no answer can be used as a request or for another request."""
    return f"{status} {nonce} {target}"
