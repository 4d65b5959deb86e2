"""Public keys from development URIs such as //Alice, and from addresses."""

from __future__ import annotations

import bittensor_core

SS58_PREFIX = 42  # of addresses, on every network of the chain


def public_key(uri: str) -> bytes:
    """The public key of a development key pair (sr25519)."""
    return bytes(bittensor_core.Keypair.create_from_uri(uri).public_key)


def from_address(ss58: str) -> bytes:
    """The public key that an address stands for. Raises ValueError."""
    return bytes(bittensor_core.ss58_decode(ss58))


def address(key: bytes) -> str:
    """The address of a public key."""
    return str(bittensor_core.ss58_encode(key, SS58_PREFIX))
