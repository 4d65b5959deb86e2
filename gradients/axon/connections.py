"""Which connections a server holds, and which gives way to a new one when there are too many.

Fair by address: the address that lets the most connections wait loses one, the one whose request is the furthest behind. So a flood from
thirty addresses pushes out its own, and whoever comes with a few whole requests gets in. A connection whose request is whole is working
for somebody and stays, unless nobody reads its answer. Covers: connections in number. Does not cover: floods from more addresses than
there is room for; then the newest caller's chance is that of everybody else.
"""

from __future__ import annotations

import ipaddress
from typing import Protocol

from gradients.axon.limits import ServerLimits
from gradients.domain.addresses import is_in, networks, parsed
from gradients.log import get_logger

LOG_SECONDS = 60.0
UNHEARD = -1e9  # how far behind a connection is that has had no chance to say anything; it gives way after all others

log = get_logger("server")


class Connection(Protocol):
    """What is asked of a connection."""

    address: str

    def behind(self, now: float) -> float | None:
        """Seconds by which its request is late, the later the more, negative for a fast body; None for one that works."""
        ...

    def drop(self) -> None:
        """End it at once."""
        ...


class OnceAMinute:
    """A log line of an event, at most once a minute, with how often it has happened since the last one."""

    def __init__(self, event: str) -> None:
        self._event, self._count, self._told_at = event, 0, -LOG_SECONDS

    def happened(self, *, now: float, **fields: object) -> None:
        """Count, and tell when it is time."""
        self._count += 1
        if now - self._told_at >= LOG_SECONDS:
            log.warning(self._event, count=self._count, **fields)
            self._count, self._told_at = 0, now


class Connections:
    """Those that are held, by who has them."""

    def __init__(self, limits: ServerLimits, *, most: int) -> None:
        self._per_address, self._proxies, self._most = limits.connections_per_address, networks(limits.proxies), most
        self._held: dict[str, dict[Connection, None]] = {}
        self._count = 0
        self._dropped = OnceAMinute("connections_dropped")

    def __len__(self) -> int:
        return self._count

    def add(self, connection: Connection, *, now: float) -> None:
        """Hold it; it, or another one, may be dropped for it."""
        owner = owner_of(connection.address)
        mine = self._held.setdefault(owner, {})
        mine[connection] = None
        self._count += 1
        if len(mine) > self._per_address and not self._is_proxy(connection.address):
            self._drop(connection, now)
        elif self._count > self._most:
            self._drop(self._latest(now) or connection, now)

    def remove(self, connection: Connection) -> None:
        """It has ended; nothing, if it was dropped."""
        owner = owner_of(connection.address)
        mine = self._held.get(owner, {})
        if connection in mine:
            del mine[connection]
            self._count -= 1
            if not mine:
                del self._held[owner]

    def _latest(self, now: float) -> Connection | None:
        """The one furthest behind of the owner who lets the most wait; None when all work."""
        most, chosen = (0, 0), None
        for mine in self._held.values():
            if len(mine) < most[0]:
                continue  # it cannot have more that are late
            late = [(behind, each) for each in mine if (behind := each.behind(now)) is not None]
            count = (sum(behind > UNHEARD for behind, _ in late), len(late))
            if count > most:
                most, chosen = count, max(late, key=lambda pair: pair[0])[1]
        return chosen

    def _drop(self, connection: Connection, now: float) -> None:
        self._dropped.happened(now=now, held=self._count - 1, most=self._most, owners=len(self._held))
        self.remove(connection)
        connection.drop()

    def _is_proxy(self, address: str) -> bool:
        ip = parsed(address)
        return ip is not None and is_in(ip, self._proxies)


def owner_of(address: str) -> str:
    """Who counts as one: an IPv4 address, or the /64 that a customer of an IPv6 network has for itself."""
    ip = parsed(address)
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(ip) >> 64 << 64, 64)))
    return str(ip) if ip else address
