"""Transactions that wait for a block."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from gradients.localchain.extrinsics import Extrinsic


class PoolRefusal(Enum):
    """Why a transaction does not get in: JSON-RPC error code, message and data, as a Substrate node words them."""

    STALE = (1010, "Invalid Transaction", "Transaction is outdated")
    BAD_SIGNATURE = (1010, "Invalid Transaction", "Transaction has a bad signature")
    ANCIENT = (1010, "Invalid Transaction", "Transaction has an ancient birth block")
    UNKNOWN_CALL = (1002, "Verification Error: Runtime error: Execution failed", "bad transaction format")
    ALREADY_IMPORTED = (1013, "Transaction Already Imported", None)
    TOO_LOW_PRIORITY = (1014, "Priority is too low", "a transaction with this nonce is waiting already")
    FULL = (1016, "Immediately Dropped", "the pool is full")


class RefusedByPoolError(Exception):
    """A transaction did not get into the pool."""

    def __init__(self, refusal: PoolRefusal) -> None:
        super().__init__(refusal.name)
        self.refusal = refusal


MAX_WAITING = 8192  # as many as a Substrate node keeps ready


@dataclass
class Pool:
    """Waiting transactions in the order in which they came, one per signer and nonce."""

    _waiting: dict[tuple[bytes, int], Extrinsic] = field(default_factory=dict)

    def add(self, extrinsic: Extrinsic) -> None:
        """Let a checked transaction wait. Raises RefusedByPoolError."""
        known = self._waiting.get((extrinsic.signer, extrinsic.nonce))
        if known is not None:
            same = known.data == extrinsic.data
            raise RefusedByPoolError(PoolRefusal.ALREADY_IMPORTED if same else PoolRefusal.TOO_LOW_PRIORITY)
        if len(self._waiting) >= MAX_WAITING:
            raise RefusedByPoolError(PoolRefusal.FULL)
        self._waiting[extrinsic.signer, extrinsic.nonce] = extrinsic

    def waiting(self) -> list[Extrinsic]:
        """All of them, in the order in which they came."""
        return list(self._waiting.values())

    def next_nonce(self, signer: bytes, nonce: int) -> int:
        """The first nonce from `nonce` on that no waiting transaction of the signer takes."""
        while (signer, nonce) in self._waiting:
            nonce += 1
        return nonce

    def forget(self, extrinsic: Extrinsic) -> None:
        """Take a transaction out: it stands in a block, or it never will."""
        self._waiting.pop((extrinsic.signer, extrinsic.nonce), None)
