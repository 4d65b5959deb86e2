"""Blocks and their headers."""

from __future__ import annotations

from dataclasses import dataclass

from gradients.localchain.hashing import blake2_256
from gradients.localchain.scale.compact import encode_compact
from gradients.localchain.state import Changes

NO_DIGEST = encode_compact(0)


@dataclass(frozen=True, slots=True)
class Header:
    """What a block's hash covers."""

    number: int
    parent_hash: bytes
    state_root: bytes
    extrinsics_root: bytes

    @property
    def hash(self) -> bytes:
        """The block's hash."""
        roots = self.state_root + self.extrinsics_root
        return blake2_256(self.parent_hash + encode_compact(self.number) + roots + NO_DIGEST)


@dataclass(frozen=True, slots=True)
class Block:
    """A block: its header, its transactions, and what it changed."""

    header: Header
    extrinsics: tuple[bytes, ...]
    changes: Changes


def state_root(parent_root: bytes, changes: Changes) -> bytes:
    """A commitment to the state: the one before it and everything that was written since, in order of keys.

    Not a Merkle root as on the real chain: it proves nothing to a light client, but two states that differ never share it.
    """
    lines = (key + (b"\0" if value is None else b"\1" + value) for key, value in sorted(changes.items()))
    return blake2_256(parent_root + b"".join(encode_compact(len(line)) + line for line in lines))


def extrinsics_root(extrinsics: tuple[bytes, ...]) -> bytes:
    """A commitment to the transactions and their order."""
    return blake2_256(b"".join(extrinsics))
