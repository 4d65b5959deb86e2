"""How much a peer may ask for: bytes, seconds, requests a minute, connections."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

KNOWN_CALLERS = 10_000


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What a server puts up with; by default what an axon does."""

    body_bytes: int = 1_000_000
    header_seconds: float = 5.0  # from connecting, or from the first byte of a later request, to a whole request head
    keep_alive_seconds: float = 5.0  # from an answer to the next whole request head
    body_seconds: float = 10.0
    requests_per_minute: int = 600  # of each caller; four times as many of each address before it is known who calls
    connections_per_address: int = 64
    connections: int | None = None  # in all; by default as many as the process's descriptors allow
    proxies: tuple[
        str, ...
    ] = ()  # networks of proxies, which are one address for everybody and have no limit per address


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What a caller waits for and takes."""

    answer_seconds: float = 15.0
    answer_bytes: int = 4_000_000
    connect_seconds: float = 5.0
    stall_seconds: float = 30.0  # of a file that is being streamed


class RateLimiter:
    """A token bucket for each caller; the least recently seen is forgotten when there are too many."""

    def __init__(self, per_minute: int) -> None:
        self._rate = per_minute / 60.0
        self._burst = float(per_minute)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, caller: str, *, now: float) -> bool:
        """Whether `caller` may go on now; `now` in seconds of a clock that never goes back."""
        tokens, since = self._buckets.pop(caller, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        allowed = tokens >= 1.0
        self._buckets[caller] = (tokens - 1.0 if allowed else tokens, now)
        if len(self._buckets) > KNOWN_CALLERS:
            self._buckets.popitem(last=False)
        return allowed
