"""How many requests a customer may make: counted in this process, or at a Redis server for several that serve one ledger.

Covers: requests in number, by customer, whatever key and address. Does not cover: who has no key (callers.py counts addresses), and what a
request costs. Where Redis is away each process counts by itself, and nobody is refused for it.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from gradients.axon.auth import redis_at
from gradients.axon.limits import RateLimiter
from gradients.errors import CustomerError
from gradients.log import get_logger

WINDOW_SECONDS = 60
ANSWER_SECONDS = 0.5  # of a Redis server that stands near by

log = get_logger("api")


class TooManyRequests(CustomerError):
    """A customer asks more often than it may.

    Args:
        retry_after_seconds: after which a request will be taken.
    """

    default_code = "too_many_requests"

    def __init__(self, message: str, *, retry_after_seconds: float, fix: str | None = None) -> None:
        super().__init__(message, fix=fix)
        self.retry_after_seconds = retry_after_seconds


class Rates(Protocol):
    """Who has asked how often."""

    per_minute: int

    def wait(self, customer: str) -> float:
        """Count a request; seconds until it may be made, 0 for one that may be made now."""
        ...


class OwnRates:
    """A token bucket for each customer, in the memory of this process."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._limiter = RateLimiter(per_minute)

    def wait(self, customer: str) -> float:
        """Count a request; a minute's worth may come at once, and then one each time that its share of a minute has passed."""
        return 0.0 if self._limiter.allows(customer, now=time.monotonic()) else WINDOW_SECONDS / self.per_minute


class SharedRates:
    """A count for each customer and minute at a Redis server. At the turn of a minute twice as many may come in short order."""

    def __init__(self, per_minute: int, url: str) -> None:
        """Raises SetupError when the package redis is missing or the URL is not a Redis URL."""
        self._server, self._failure = redis_at(url, setting="api.limits_url", timeout_seconds=ANSWER_SECONDS)
        self.per_minute = per_minute
        self._own = OwnRates(per_minute)

    def wait(self, customer: str) -> float:
        """Count a request; what is left of the minute when it is one too many."""
        key = f"gradients:requests:{customer}"
        try:
            together = self._server.pipeline()
            together.set(key, 0, ex=WINDOW_SECONDS, nx=True)
            together.incr(key)
            together.ttl(key)
            counted: list[Any] = together.execute()  # Any: as redis answers
        except self._failure as error:
            log.warning("limits_not_shared", problem=str(error))
            return self._own.wait(customer)
        _, count, left = counted
        return 0.0 if int(count) <= self.per_minute else float(max(int(left), 1))


def rates_at(url: str | None, per_minute: int) -> Rates:
    """Counted here, or at a Redis URL. Raises SetupError."""
    return SharedRates(per_minute, url) if url else OwnRates(per_minute)
