"""Substrate's hashes: blake2b for blocks and transactions, xxHash64 for storage keys."""

from __future__ import annotations

from functools import cache, lru_cache
from hashlib import blake2b
from typing import Any

from xxhash import xxh64_intdigest

from gradients.localchain.pallets.declare import Hasher, Storage

PREFIX_BYTES = 32  # of a storage key: which item it belongs to


def blake2_256(data: bytes) -> bytes:
    """The hash of blocks, transactions and long signature payloads."""
    return blake2b(data, digest_size=32).digest()


def twox_64(data: bytes, *, seed: int = 0) -> bytes:
    """One xxHash64, little-endian (the library's own bytes are big-endian)."""
    return xxh64_intdigest(data, seed).to_bytes(8, "little")


def twox_128(data: bytes) -> bytes:
    """Two xxHash64 with seeds 0 and 1, little-endian."""
    return twox_64(data) + twox_64(data, seed=1)


@lru_cache(maxsize=65536)
def storage_key(item: Storage[Any], keys: tuple[int | bytes, ...]) -> bytes:  # Any: items hold different values
    """The key under which `item` is stored for `keys`; with fewer keys than the item has, the prefix of all of them."""
    whole = item_prefix(item)
    for key, value in zip(item.keys, keys, strict=False):
        encoded = key.type.encode(value)
        if key.hasher is Hasher.BLAKE2_128_CONCAT:
            whole += blake2b(encoded, digest_size=16).digest()
        elif key.hasher is Hasher.TWOX_64_CONCAT:
            whole += twox_64(encoded)
        whole += encoded
    return whole


@cache
def item_prefix(item: Storage[Any]) -> bytes:
    """What all keys of `item` start with."""
    return twox_128(item.pallet.encode()) + twox_128(item.name.encode())
