"""Commitments, and in which order they stand in a block that several of them share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from gradients.chain.reading import commitment_of
from gradients.domain.chain import Commitment
from gradients.domain.task import Hotkey

SIGNED = bytes(
    [0x84, 0]
)  # how an extrinsic of format 4 begins that an account signed; the account's public key follows


class CommitmentReader:
    """Reads a subnet's commitments through the SDK's client; remembers the places that it has looked up in final blocks."""

    def __init__(self, netuid: int) -> None:
        self._netuid = netuid
        self._places: dict[Commitment, int | None] = {}

    async def read(self, client: Any, block: int | None) -> Mapping[Hotkey, Commitment]:  # noqa: ANN401 (bittensor's Client)
        """What each hotkey has committed in the open, at `block` or now."""
        import bittensor as bt

        rows = await client.query_map(bt.storage.Commitments.CommitmentOf, [self._netuid], block=block)
        read = [commitment_of(str(hotkey), record) for hotkey, record in rows]
        found = {commitment.hotkey: commitment for commitment in read if commitment is not None}
        shared = shared_blocks(found.values())
        final = int(await client.finalized_block()) if shared else 0
        for number in shared:
            neighbours = [each for each in found.values() if each.block == number]
            places = {each: self._places[each] for each in neighbours if each in self._places}
            if len(places) < len(neighbours):
                places = await _places(client, neighbours, block=number)
                if number <= final:  # the newest blocks may still be replaced
                    self._places.update(places)
            found |= {each.hotkey: replace(each, extrinsic_index=place) for each, place in places.items()}
        return found


async def _places(client: Any, neighbours: Iterable[Commitment], *, block: int) -> dict[Commitment, int | None]:  # noqa: ANN401 (as above)
    """Where in the block each commitment stands; None on a node that has forgotten the block's body."""
    from bittensor.sp_core import ss58_decode

    block_hash = await client._substrate.block_hash(block)
    answer = await client._substrate.raw.rpc_request("chain_getBlock", [block_hash])
    body = [bytes.fromhex(each[2:]) for each in answer["block"]["extrinsics"]] if answer else []
    return {
        each: extrinsic_index(body, signer=bytes(ss58_decode(each.hotkey)), payload=each.payload) for each in neighbours
    }


def shared_blocks(commitments: Iterable[Commitment]) -> set[int]:
    """The blocks in which more than one of the commitments stands."""
    counts = Counter(each.block for each in commitments)
    return {block for block, count in counts.items() if count > 1}


def extrinsic_index(body: Iterable[bytes], *, signer: bytes, payload: bytes) -> int | None:
    """Which extrinsic of a block's body wrote the payload: the last that the signer signed and that holds it; None if none does.

    Read from the bytes alone, since decoding an old block needs its runtime, which most nodes have forgotten.
    """
    found = [
        index
        for index, extrinsic in enumerate(body)
        if _without_length(extrinsic).startswith(SIGNED + signer) and payload in extrinsic
    ]
    return found[-1] if found else None


def _without_length(extrinsic: bytes) -> bytes:
    """Behind SCALE's compact length, whose size its first byte's two lowest bits tell."""
    return extrinsic[(1, 2, 4)[extrinsic[0] & 3] :] if extrinsic and extrinsic[0] & 3 != 3 else b""
