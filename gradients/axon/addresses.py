"""Which addresses of peers are called. The chain takes nearly any address, so whoever calls must choose.

Covers: addresses that gradients/domain/addresses.py refuses, names, low ports. Does not cover: what answers at a public address.
"""

from __future__ import annotations

from gradients.domain.addresses import may_be_called
from gradients.domain.chain import AxonAddress
from gradients.errors import PeerUnreachable

LOWEST_PORT, HIGHEST_PORT = 1024, 65535


def check_address(address: AxonAddress, *, allow_private: bool) -> None:
    """Raises PeerUnreachable for an address that is not to be called; `allow_private` is for local networks."""
    allowed = may_be_called(address.ip, allow_private=allow_private)
    if not (allowed and LOWEST_PORT <= address.port <= HIGHEST_PORT):
        raise PeerUnreachable(f"{address.url()[:96]} is not an address that peers may have", code="address_refused")
