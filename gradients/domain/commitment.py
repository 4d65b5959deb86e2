"""How a miner binds itself to a submission without showing it.

The chain has one commitment slot per hotkey and subnet, so a miner commits the Merkle root over its open tasks. A leaf binds subnet,
task and hotkey, so a copied root is worth nothing to anybody else, and carries a salt, so that nothing can be guessed from it.
What this does not cover: that the bytes are any good (screening), or that they can be had (collection).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

PREFIX = b"gradients/1:"
_LEAF, _NODE = b"\x00", b"\x01"


@dataclass(frozen=True, slots=True)
class Opening:
    """What a miner shows after the deadline to prove that its root holds this submission."""

    netuid: int
    task_id: str
    hotkey: str
    manifest_sha256: str
    salt: str  # 32 bytes as hex

    def leaf(self) -> bytes:
        """The leaf's hash, 32 bytes."""
        parts = (str(self.netuid), self.task_id, self.hotkey, self.manifest_sha256, self.salt)
        return _hash(_LEAF, *(len(part).to_bytes(4, "big") + part.encode() for part in parts))


@dataclass(frozen=True, slots=True)
class ProofStep:
    """One sibling on the way from a leaf to the root."""

    sibling: str  # 32 bytes as hex
    sibling_is_left: bool


def payload(leaves: Sequence[bytes]) -> bytes:
    """The bytes to write on chain for the leaves of all open tasks, in any order; at most 128 bytes."""
    return PREFIX + _levels(sorted(leaves))[-1][0].hex().encode()


def prove(leaves: Sequence[bytes], leaf: bytes) -> tuple[ProofStep, ...]:
    """The siblings that lead from `leaf` to the root of `leaves`. Raises ValueError when the leaf is not among them."""
    levels = _levels(sorted(leaves))
    position = levels[0].index(leaf)
    steps: list[ProofStep] = []
    for level in levels[:-1]:
        sibling = position ^ 1
        if sibling < len(level):
            steps.append(ProofStep(level[sibling].hex(), sibling_is_left=sibling < position))
        position //= 2
    return tuple(steps)


def opens(committed: bytes, opening: Opening, proof: Sequence[ProofStep]) -> bool:
    """Whether the payload `committed` on chain contains `opening`."""
    node = opening.leaf()
    for step in proof:
        sibling = bytes.fromhex(step.sibling)
        node = _hash(_NODE, sibling, node) if step.sibling_is_left else _hash(_NODE, node, sibling)
    return committed == PREFIX + node.hex().encode()


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Every level of the tree from the leaves to the root; a lone last node moves up as it is."""
    if not leaves:
        raise ValueError("a commitment needs at least one leaf")
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        pairs = [_hash(_NODE, *below[i : i + 2]) if i + 1 < len(below) else below[i] for i in range(0, len(below), 2)]
        levels.append(pairs)
    return levels


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()
