"""Who calls through a proxy, and how many requests an address may have under way at the same time.

A header that says for whom a proxy speaks is believed of proxies that the operator trusts, and of nobody else. Covers: requests in number
by address. Does not cover: who somebody is; a key says that.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from starlette.types import ASGIApp, Receive, Scope, Send

from gradients.axon.connections import owner_of
from gradients.domain.addresses import Network, is_in, parsed
from validator.api.refusals import refused

Header = Literal["x-forwarded-for", "forwarded"]
_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*"?([^;"]+)"?', re.IGNORECASE)
_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d+)?|([\d.]+):\d+")


@dataclass(frozen=True, slots=True)
class RequestsPerAddress:
    """Refuses with 429 what an address wants beyond `most` requests at once."""

    app: ASGIApp
    most: int
    proxies: tuple[Network, ...]
    header: Header
    under_way: Counter[str] = field(default_factory=Counter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, unless the address has enough of it."""
        address = caller_of(scope, self.proxies, self.header) if scope["type"] == "http" else ""
        if not address or _is_in(address, self.proxies):  # a proxy that names nobody speaks for everybody
            await self.app(scope, receive, send)
            return
        caller = owner_of(address)
        if self.under_way[caller] >= self.most:
            said = f"Your address has {self.most} requests under way"
            answer = refused(
                429, code="too_many_requests", message=said, fix="Wait for their answers", headers={"Retry-After": "1"}
            )
            await answer(scope, receive, send)
            return
        self.under_way[caller] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.under_way[caller] -= 1
            if not self.under_way[caller]:
                del self.under_way[caller]


def caller_of(scope: Scope, proxies: Sequence[Network], header: Header) -> str:
    """The address that a request comes from: the last one in front of trusted proxies, as these name it; "" when nobody knows."""
    peer = scope["client"][0] if scope.get("client") else ""
    named = _named(scope["headers"], header) if _is_in(peer, proxies) else []
    for address in reversed(named):
        if parsed(address) is None:
            return peer  # a name, or made up: what stands before it is worth as little
        peer = address
        if not _is_in(address, proxies):
            break
    return peer


def _is_in(address: str, proxies: Sequence[Network]) -> bool:
    ip = parsed(address)
    return ip is not None and is_in(ip, proxies)


def _named(headers: Sequence[tuple[bytes, bytes]], header: Header) -> list[str]:
    """The addresses of the header, as often as it stands there, the nearest proxy's last."""
    lines = [value.decode("latin-1") for name, value in headers if name.decode("latin-1").lower() == header]
    parts = [part.strip() for line in lines for part in line.split(",")]
    if header == "forwarded":
        parts = [match[1].strip() if (match := _FOR.search(part)) else "" for part in parts]
    return [(match[1] or match[2]) if (match := _WITH_PORT.fullmatch(part)) else part for part in parts]
