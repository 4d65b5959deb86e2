"""Which addresses of peers are called. The chain takes nearly any address, so whoever calls must choose.

Covers: private, loopback, link-local, multicast and tunnelled addresses, low ports. Does not cover: what answers at a public address.
"""

from __future__ import annotations

import ipaddress

from gradients.domain.chain import AxonAddress
from gradients.errors import PeerUnreachable

LOWEST_PORT = 1024
_TUNNELS = tuple(map(ipaddress.ip_network, ("2002::/16", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32")))


def check_address(address: AxonAddress, *, allow_private: bool) -> None:
    """Raises PeerUnreachable for an address that is not to be called; `allow_private` is for local networks."""
    try:
        ip = ipaddress.ip_address(address.ip)
    except ValueError as error:
        raise PeerUnreachable(f"'{address.ip}' is no IP address", code="address_refused") from error
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    tunnelled = any(ip in network for network in _TUNNELS if network.version == ip.version)
    public = ip.is_global and not ip.is_multicast and not tunnelled
    local = allow_private and (ip.is_loopback or ip.is_private) and not ip.is_unspecified
    if address.port < LOWEST_PORT or not (public or local):
        raise PeerUnreachable(f"{address.url()} is not an address that peers may have", code="address_refused")
