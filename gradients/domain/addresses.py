"""Which IP addresses are called on behalf of others, who may name nearly any. Pure; whoever calls must have looked the address up before.

Covers: private, loopback, link-local, multicast, reserved and tunnelled addresses, names. Does not cover: what answers at a public address.
"""

from __future__ import annotations

import ipaddress

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
# Ways into other networks (6to4, its relays, NAT64, Teredo) and examples in documents, all of which Python calls global.
_NOBODYS = tuple(
    map(
        ipaddress.ip_network,
        ("2002::/16", "192.88.99.0/24", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "3fff::/20"),
    )
)


def may_be_called(address: str, *, allow_private: bool) -> bool:
    """Whether `address` is an IP address that may be called: a public one, or with `allow_private` one of this site; never a name."""
    if (ip := _parsed(address)) is None:
        return False
    special = ip.is_multicast or ip.is_reserved or any(ip in net for net in _NOBODYS if net.version == ip.version)
    within_a_site = isinstance(ip, ipaddress.IPv6Address) and (ip.is_site_local or ip.scope_id is not None)
    return (ip.is_global and not special and not within_a_site) or (allow_private and is_private(address))


def is_private(address: str) -> bool:
    """Whether `address` is one of this machine or its site; not a link-local one, where clouds keep their machines' credentials."""
    if (ip := _parsed(address)) is None:
        return False
    unusable = ip.is_unspecified or ip.is_link_local or ip.is_reserved
    return ip.is_loopback or (ip.is_private and not unusable)


def _parsed(address: str) -> Ip | None:
    """The IP address, or None for a name; an IPv4 address in IPv6's clothes is taken for what it is."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip
