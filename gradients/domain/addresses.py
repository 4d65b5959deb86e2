"""Which IP addresses are called on behalf of others, who may name nearly any. Pure; whoever calls must have looked the address up before.

Covers: private, loopback, link-local, multicast, reserved and tunnelled addresses, names. Does not cover: what answers at a public address.
The tables are IANA's special-purpose registries, whole, including what they call globally reachable: nobody's data or axon lies there.
The interpreter's own tables differ from version to version.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PUBLIC_IPV6 = "2000::/3"  # all of IPv6 that is given out for the internet; what lies outside needs no entry
SPECIAL: tuple[str, ...] = (
    # https://www.iana.org/assignments/iana-ipv4-special-registry
    "0.0.0.0/8",  # this network
    "10.0.0.0/8",  # private
    "100.64.0.0/10",  # shared by a carrier's customers
    "127.0.0.0/8",  # loopback
    "169.254.0.0/16",  # link-local, where clouds keep their machines' credentials
    "172.16.0.0/12",  # private
    "192.0.0.0/24",  # protocol assignments: DS-Lite, dummies, discovery; an older cloud's credentials
    "192.0.2.0/24",  # documents
    "192.31.196.0/24",  # AS112
    "192.52.193.0/24",  # AMT
    "192.88.99.0/24",  # relays of 6to4
    "192.168.0.0/16",  # private
    "192.175.48.0/24",  # AS112
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",  # documents
    "203.0.113.0/24",  # documents
    "240.0.0.0/4",  # reserved, broadcast at its end
    "224.0.0.0/4",  # multicast, which has a registry of its own
    # https://www.iana.org/assignments/iana-ipv6-special-registry
    "::/128",  # unspecified
    "::1/128",  # loopback
    "64:ff9b::/96",  # NAT64
    "64:ff9b:1::/48",  # NAT64 of a site
    "100::/64",  # discarded
    "100:0:0:1::/64",  # dummy prefix
    "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID, drones
    "2001:db8::/32",  # documents
    "2002::/16",  # 6to4
    "2620:4f:8000::/48",  # AS112
    "3fff::/20",  # documents
    "5f00::/16",  # segment routing
    "fc00::/7",  # private
    "fe80::/10",  # link-local
    "ff00::/8",  # multicast, which has a registry of its own
)
OF_A_SITE = ("10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
LOOPBACK = ("127.0.0.0/8", "::1/128")


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Addresses and networks as values. Raises ValueError for a text that is neither."""
    return tuple(map(ipaddress.ip_network, texts))


_NOT_PUBLIC, _PUBLIC6, _SITE = networks(SPECIAL), networks([_PUBLIC_IPV6]), networks(OF_A_SITE)


def may_be_called(address: str, *, allow_private: bool) -> bool:
    """Whether `address` is an IP address that may be called: a public one, or with `allow_private` one of this site; never a name."""
    if (ip := parsed(address)) is None:
        return False
    given_out = ip.version == 4 or (is_in(ip, _PUBLIC6) and ip.scope_id is None)
    return (given_out and not is_in(ip, _NOT_PUBLIC)) or (allow_private and is_in(ip, _SITE))


def is_private(address: str) -> bool:
    """Whether `address` is one of this machine or its site; not a link-local one, where clouds keep their machines' credentials."""
    ip = parsed(address)
    return ip is not None and is_in(ip, _SITE)


def is_in(ip: Ip, nets: Iterable[Network]) -> bool:
    """Whether one of the networks has the address."""
    return any(ip in net for net in nets if net.version == ip.version)


def parsed(address: str) -> Ip | None:
    """The IP address, or None for a name; an IPv4 address in IPv6's clothes is taken for what it is."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip
