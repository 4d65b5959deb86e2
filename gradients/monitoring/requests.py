"""Counting requests by route and answer. Labels come from our own routes alone: what strangers write multiplies no series."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUESTS = Counter("gradients_http_requests", "requests that were answered", ["server", "method", "route", "status"])
SECONDS = Histogram(
    "gradients_http_request_seconds",
    "time until an answer began",
    ["server", "method", "route"],
    buckets=(0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0),
)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"  # methods and routes that nobody has declared


@dataclass(frozen=True, slots=True)
class CountedRequests:
    """An application whose requests are counted."""

    app: ASGIApp
    server: Literal["api", "axon"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status, seconds = time.perf_counter(), 500, None

        async def noted(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = message["status"], time.perf_counter() - began
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            method = scope["method"] if scope["method"] in METHODS else OTHER
            route = getattr(scope.get("route"), "path", OTHER)
            REQUESTS.labels(self.server, method, route, str(status)).inc()
            if seconds is not None:
                SECONDS.labels(self.server, method, route).observe(seconds)
