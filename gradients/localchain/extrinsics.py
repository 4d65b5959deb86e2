"""Transactions as bytes: taking them apart, and checking who signed them.

A signed transaction (version 4) is: length, 0x84, address, signature, extra (era, nonce, tip, metadata mode), call. The signature covers
call, extra, and what both sides know anyway: the runtime's versions, the genesis hash, the hash of the block in which the era began.
"""

from __future__ import annotations

from dataclasses import dataclass

import bittensor_core

from gradients.localchain.hashing import blake2_256
from gradients.localchain.keys import address
from gradients.localchain.scale.compact import Reader, encode_compact

SIGNED_V4 = 0x84
BARE_V4 = 0x04
ID_ADDRESS = 0
LONG_PAYLOAD_BYTES = 256  # longer ones are signed by their hash
SIGNATURE_BYTES = {0: 64, 1: 64}  # by scheme: ed25519, sr25519


@dataclass(frozen=True, slots=True)
class Era:
    """For which blocks a transaction is good: `period` of them from `birth(current)` on; a period of 0 is for ever."""

    period: int
    phase: int

    @classmethod
    def read(cls, reader: Reader) -> Era:
        """The era at the reader's position, which moves on. Raises ValueError when the bytes end early."""
        first = reader.take(1)[0]
        if first == 0:
            return cls(0, 0)
        packed = first | reader.take(1)[0] << 8
        period = 2 << packed % 16
        return cls(period, (packed >> 4) * max(period >> 12, 1))

    def birth(self, current: int) -> int:
        """The block that a transaction was made for, seen from block `current`."""
        if not self.period:
            return 0
        return (max(current, self.phase) - self.phase) // self.period * self.period + self.phase

    def is_over(self, *, birth: int, block: int) -> bool:
        """Whether `block` is too late."""
        return bool(self.period) and block >= birth + self.period


@dataclass(frozen=True, slots=True)
class Extrinsic:
    """A signed transaction, taken apart."""

    data: bytes
    signer: bytes
    scheme: int
    signature: bytes
    era: Era
    nonce: int
    extra: bytes  # era, nonce, tip and mode, as they stand in the transaction
    call: bytes

    @property
    def hash(self) -> bytes:
        """How clients name it."""
        return blake2_256(self.data)


@dataclass(frozen=True, slots=True)
class SigningContext:
    """What a signature covers besides the transaction's own bytes."""

    spec_version: int
    transaction_version: int
    genesis_hash: bytes


def parse(data: bytes) -> Extrinsic:
    """Take a transaction apart. Raises ValueError for bytes that are not a signed transaction."""
    outer = Reader(data)
    if outer.compact() != len(data) - outer.position:
        raise ValueError("the length in front does not fit")
    reader = Reader(data, outer.position)
    if reader.take(1)[0] != SIGNED_V4:
        raise ValueError("not a signed transaction of version 4")
    if reader.take(1)[0] != ID_ADDRESS:
        raise ValueError("the signer is not named by its public key")
    signer = reader.take(32)
    scheme = reader.take(1)[0]
    if scheme not in SIGNATURE_BYTES:
        raise ValueError("only ed25519 and sr25519 signatures are known")
    signature = reader.take(SIGNATURE_BYTES[scheme])
    start = reader.position
    era = Era.read(reader)
    nonce = reader.compact()
    reader.compact()  # the tip, which buys nothing here
    if reader.take(1) != b"\0":
        raise ValueError("signing over the metadata's hash is not supported")
    extra = data[start : reader.position]
    return Extrinsic(data, signer, scheme, signature, era, nonce, extra, reader.rest())


def bare(call: bytes) -> bytes:
    """A transaction that the block's author puts in without a signature."""
    body = bytes([BARE_V4]) + call
    return encode_compact(len(body)) + body


def is_signed_by_its_signer(extrinsic: Extrinsic, context: SigningContext, *, birth_hash: bytes) -> bool:
    """Whether the signature fits."""
    versions = context.spec_version.to_bytes(4, "little") + context.transaction_version.to_bytes(4, "little")
    payload = extrinsic.call + extrinsic.extra + versions + context.genesis_hash + birth_hash + b"\0"
    if len(payload) > LONG_PAYLOAD_BYTES:
        payload = blake2_256(payload)
    return bool(bittensor_core.verify(payload, extrinsic.signature, address(extrinsic.signer), extrinsic.scheme))
