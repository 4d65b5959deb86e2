"""How a miner binds itself to a submission without showing it: one submission per task.

The chain has one commitment slot per hotkey and subnet, so a miner commits the root over its open tasks. The tree is a map: subnet, task
and hotkey say where a leaf stands, so that one root can open one leaf per task, however it was made, and a copied root is worth nothing
to anybody else. A leaf carries a salt, so that nothing can be guessed from it.
What this does not cover: that the bytes are any good (screening), or that they can be had (collection).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PREFIX = b"gradients/1:"
HEIGHT = 256  # levels between a leaf and the root: one for each bit of a position
EMPTY = bytes(32)  # stands for a subtree without leaves
_POSITION, _LEAF, _NODE = b"\x02", b"\x00", b"\x01"


@dataclass(frozen=True, slots=True)
class Opening:
    """What a miner shows after the deadline to prove that its root holds this submission."""

    netuid: int
    task_id: str
    hotkey: str
    manifest_sha256: str
    salt: str  # 32 bytes as hex

    def leaf(self) -> bytes:
        """Where the leaf stands, 32 bytes, and its hash, 32 bytes."""
        place = (str(self.netuid), self.task_id, self.hotkey)
        return _of_texts(_POSITION, *place) + _of_texts(_LEAF, *place, self.manifest_sha256, self.salt)


@dataclass(frozen=True, slots=True)
class ProofStep:
    """One sibling on the way from a leaf to the root; those that are not named have no leaves."""

    height: int  # 0 stands beside the leaf, HEIGHT - 1 below the root
    sibling: str  # 32 bytes as hex


def payload(leaves: Sequence[bytes]) -> bytes:
    """The bytes to write on chain for the leaves of all open tasks, in any order; at most 128 bytes.

    Raises ValueError without a leaf, and for two leaves of one task.
    """
    return PREFIX + _levels(leaves)[HEIGHT][0].hex().encode()


def prove(leaves: Sequence[bytes], leaf: bytes) -> tuple[ProofStep, ...]:
    """The siblings that lead from `leaf` to the root of `leaves`. Raises ValueError when the leaf is not among them."""
    if leaf not in leaves:
        raise ValueError("the leaf is not among those of the tree")
    position = int.from_bytes(leaf[:32], "big")
    levels = _levels(leaves)[:HEIGHT]
    siblings = [(height, level.get((position >> height) ^ 1)) for height, level in enumerate(levels)]
    return tuple(ProofStep(height, sibling.hex()) for height, sibling in siblings if sibling is not None)


def opens(committed: bytes, opening: Opening, proof: Sequence[ProofStep]) -> bool:
    """Whether the payload `committed` on chain contains `opening`.

    The way to the root is fixed by the task, so whoever opens two submissions of one task has found a collision of sha256.
    """
    leaf = opening.leaf()
    position, node = int.from_bytes(leaf[:32], "big"), leaf[32:]
    siblings = {step.height: bytes.fromhex(step.sibling) for step in proof}
    if len(siblings) != len(proof) or any(not 0 <= h < HEIGHT or len(s) != 32 for h, s in siblings.items()):
        return False
    for height in range(HEIGHT):
        node = _parent(node, siblings.get(height, EMPTY), node_is_right=bool(position >> height & 1))
    return committed == PREFIX + node.hex().encode()


def _levels(leaves: Sequence[bytes]) -> list[Mapping[int, bytes]]:
    """Position -> node of every level from the leaves to the root; what has no leaves below it is left out."""
    level = {int.from_bytes(leaf[:32], "big"): leaf[32:] for leaf in leaves}
    if not leaves or len(level) != len(leaves):
        raise ValueError("a commitment needs at least one leaf, and at most one for each task")
    levels: list[Mapping[int, bytes]] = [level]
    for _ in range(HEIGHT):
        below = levels[-1]
        left = {position & ~1 for position in below}
        levels.append(
            {p >> 1: _parent(below.get(p, EMPTY), below.get(p | 1, EMPTY), node_is_right=False) for p in left}
        )
    return levels


def _parent(node: bytes, sibling: bytes, *, node_is_right: bool) -> bytes:
    return hashlib.sha256(_NODE + (sibling + node if node_is_right else node + sibling)).digest()


def _of_texts(kind: bytes, *texts: str) -> bytes:
    parts = (len(text.encode()).to_bytes(4, "big") + text.encode() for text in texts)
    return hashlib.sha256(kind + b"".join(parts)).digest()
