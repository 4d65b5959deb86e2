"""Which extrinsic of a block wrote a commitment, read from the block's bytes."""

from __future__ import annotations

import pytest

from gradients.chain.commitments import SIGNED, extrinsic_index, shared_blocks
from gradients.domain.chain import Commitment
from gradients.domain.task import Hotkey
from gradients.localchain.scale.compact import encode_compact

ALICE, BOB = b"a" * 32, b"b" * 32
TIME = encode_compact(7) + b"\x04\x02\x00time"  # what every block begins with; nobody signs it


def signed(who: bytes, payload: bytes, *, padding: int = 0) -> bytes:
    """An extrinsic of format 4: length, signature's kind, signer, signature, call."""
    body = SIGNED + who + b"\x01" + bytes(64) + bytes(padding) + payload
    return encode_compact(len(body)) + body


@pytest.mark.parametrize("padding", [0, 100, 20_000])  # lengths of two bytes, and of four
def test_the_place_is_the_signers_extrinsic_that_holds_the_payload(padding: int) -> None:
    body = [TIME, signed(BOB, b"root", padding=padding), signed(ALICE, b"root", padding=padding), signed(ALICE, b"x")]
    assert extrinsic_index(body, signer=ALICE, payload=b"root") == 2
    assert extrinsic_index(body, signer=BOB, payload=b"root") == 1


def test_a_length_of_one_byte_is_read_too() -> None:
    short = SIGNED + ALICE + b"root"
    assert extrinsic_index([TIME, encode_compact(len(short)) + short], signer=ALICE, payload=b"root") == 1


def test_what_was_written_twice_counts_by_the_last_time() -> None:
    body = [TIME, signed(ALICE, b"root"), signed(BOB, b"root"), signed(ALICE, b"root")]
    assert extrinsic_index(body, signer=ALICE, payload=b"root") == 3


@pytest.mark.parametrize(
    "body", [[], [b""], [TIME], [signed(BOB, b"root" + ALICE)], [b"\x03" + SIGNED + ALICE + b"root"]]
)
def test_without_such_an_extrinsic_there_is_no_place(body: list[bytes]) -> None:
    assert extrinsic_index(body, signer=ALICE, payload=b"root") is None


def test_only_blocks_that_several_commitments_share_are_looked_at() -> None:
    commitments = [Commitment(Hotkey(name), b"", block) for name, block in (("a", 5), ("b", 6), ("c", 5), ("d", 7))]
    assert shared_blocks(commitments) == {5}
