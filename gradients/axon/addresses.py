"""Which addresses of peers are called. The chain takes nearly any address, so whoever calls must choose.

Covers: private, loopback, link-local, multicast, reserved and tunnelled addresses, names, low ports. Does not cover: what answers at a
public address.
"""

from __future__ import annotations

import ipaddress

from gradients.domain.chain import AxonAddress
from gradients.errors import PeerUnreachable

LOWEST_PORT, HIGHEST_PORT = 1024, 65535
Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
# Ways into other networks (6to4, its relays, NAT64, Teredo) and examples in documents, all of which Python calls global.
_NOBODYS = tuple(
    map(
        ipaddress.ip_network,
        ("2002::/16", "192.88.99.0/24", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "3fff::/20"),
    )
)


def check_address(address: AxonAddress, *, allow_private: bool) -> None:
    """Raises PeerUnreachable for an address that is not to be called; `allow_private` is for local networks."""
    ip = _parsed(address.ip)
    allowed = _is_public(ip) or (allow_private and _is_local(ip))
    if not (allowed and LOWEST_PORT <= address.port <= HIGHEST_PORT):
        raise PeerUnreachable(f"{address.url()} is not an address that peers may have", code="address_refused")


def _parsed(text: str) -> Ip:
    """The address that would be called; an IPv4 address in IPv6's clothes is taken for what it is."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError as error:
        raise PeerUnreachable(f"{text[:64]!r} is no IP address", code="address_refused") from error
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip


def _is_public(ip: Ip) -> bool:
    special = ip.is_multicast or ip.is_reserved or any(ip in net for net in _NOBODYS if net.version == ip.version)
    within_a_site = isinstance(ip, ipaddress.IPv6Address) and (ip.is_site_local or ip.scope_id is not None)
    return ip.is_global and not special and not within_a_site


def _is_local(ip: Ip) -> bool:
    """Loopback and private networks; not link-local, where clouds keep their machines' credentials."""
    unusable = ip.is_unspecified or ip.is_link_local or ip.is_reserved
    return ip.is_loopback or (ip.is_private and not unusable)
