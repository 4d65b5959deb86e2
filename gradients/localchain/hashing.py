"""Substrate's hashes: blake2b for blocks and transactions, xxHash64 for storage keys."""

from __future__ import annotations

from functools import cache, lru_cache
from hashlib import blake2b
from typing import Any

from gradients.localchain.pallets.declare import Hasher, Storage

MASK = 2**64 - 1
PRIMES = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)
PREFIX_BYTES = 32  # of a storage key: which item it belongs to


def blake2_256(data: bytes) -> bytes:
    """The hash of blocks, transactions and long signature payloads."""
    return blake2b(data, digest_size=32).digest()


def twox_128(data: bytes) -> bytes:
    """Two xxHash64 with seeds 0 and 1, little-endian."""
    return b"".join(xxhash64(data, seed).to_bytes(8, "little") for seed in (0, 1))


@lru_cache(maxsize=65536)
def storage_key(item: Storage[Any], keys: tuple[int | bytes, ...]) -> bytes:  # Any: items hold different values
    """The key under which `item` is stored for `keys`; with fewer keys than the item has, the prefix of all of them."""
    parts = (_hashed(key.hasher, key.type.encode(value)) for key, value in zip(item.keys, keys, strict=False))
    return item_prefix(item) + b"".join(parts)


@cache
def item_prefix(item: Storage[Any]) -> bytes:
    """What all keys of `item` start with."""
    return twox_128(item.pallet.encode()) + twox_128(item.name.encode())


def xxhash64(data: bytes, seed: int) -> int:
    """xxHash64 of `data` (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md)."""
    p1, p2, p3, p4, p5 = PRIMES
    length, position = len(data), 0
    if length >= 32:
        lanes = [seed + p1 + p2, seed + p2, seed, seed - p1]
        while position + 32 <= length:
            for lane in range(4):
                lanes[lane] = _round(lanes[lane], _word(data, position, 8))
                position += 8
        total = sum(_rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & MASK
        for lane in lanes:
            total = ((total ^ _round(0, lane)) * p1 + p4) & MASK
    else:
        total = (seed + p5) & MASK
    total = (total + length) & MASK
    for start in range(position, length - 7, 8):
        total = (_rotate(total ^ _round(0, _word(data, start, 8)), 27) * p1 + p4) & MASK
    position = length - length % 8
    if length - position >= 4:
        total = (_rotate(total ^ (_word(data, position, 4) * p1 & MASK), 23) * p2 + p3) & MASK
        position += 4
    for byte in data[position:]:
        total = _rotate(total ^ (byte * p5 & MASK), 11) * p1 & MASK
    total = (total ^ total >> 33) * p2 & MASK
    total = (total ^ total >> 29) * p3 & MASK
    return total ^ total >> 32


def _hashed(hasher: Hasher, data: bytes) -> bytes:
    if hasher is Hasher.BLAKE2_128_CONCAT:
        return blake2b(data, digest_size=16).digest() + data
    if hasher is Hasher.TWOX_64_CONCAT:
        return xxhash64(data, 0).to_bytes(8, "little") + data
    return data


def _round(lane: int, word: int) -> int:
    return _rotate((lane + word * PRIMES[1]) & MASK, 31) * PRIMES[0] & MASK


def _rotate(value: int, bits: int) -> int:
    value &= MASK
    return (value << bits | value >> (64 - bits)) & MASK


def _word(data: bytes, position: int, width: int) -> int:
    return int.from_bytes(data[position : position + width], "little")
