"""What the project asks of the chain. Daemons see this protocol only; `sdk.py` serves every network through it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from gradients.domain.chain import AxonAddress, Commitment, Metagraph, WeightsReceipt
from gradients.domain.emission import EmissionTerms
from gradients.domain.task import Hotkey

MAX_COMMITMENT_BYTES = 128  # the chain's
LIFETIME_BLOCKS = 128  # of a transaction, by the SDK's default


class ChainGateway(Protocol):
    """One subnet of one network, seen through one wallet.

    Every call has a time limit of its own. Raises ChainUnreachable when nobody answers, ChainRefused when the chain says no, and
    ChainOutcomeUnknown when a transaction was sent, its answer was lost, and the chain did not show its effect in time either.
    """

    @property
    def netuid(self) -> int:
        """The subnet."""
        ...

    @property
    def hotkey(self) -> Hotkey:
        """Our own address."""
        ...

    async def block(self) -> int:
        """The newest block's number."""
        ...

    async def block_hash(self, block: int) -> str:
        """The hash of a final block, "0x" and 64 hex digits, however old; nobody can know it before the block stands.

        Raises ChainRefused (block_not_final) while another block may still take its place.
        """
        ...

    async def block_seconds(self) -> float:
        """Seconds between two blocks, by the chain's own constant."""
        ...

    async def head_time(self) -> float:
        """When the newest block was made, by its author's clock, in seconds since the Unix epoch."""
        ...

    async def stake_threshold_alpha(self) -> float:
        """The stake, alpha and weighted root stake together, below which the chain takes weights from nobody but a subnet's owner."""
        ...

    def heads(self) -> AsyncIterator[int]:
        """Numbers of new blocks, for ever: it opens the subscription again when it dies, so numbers may jump."""
        ...

    async def metagraph(self) -> Metagraph:
        """The subnet at the newest block."""
        ...

    async def emission_terms(self) -> EmissionTerms:
        """What every subnet's part of the chain's TAO is computed from."""
        ...

    async def commitments(self, *, block: int | None = None) -> Mapping[Hotkey, Commitment]:
        """What each hotkey has committed, at `block` or now; sealed commitments are left out.

        Commitments that stand in one block know their places in it (`extrinsic_index`), unless the node has forgotten the block's body.
        """
        ...

    async def weights_of(self, uid: int) -> Mapping[int, float]:
        """The weights that stand on chain for a validator's uid, uid -> share; empty before the first were set."""
        ...

    async def balance_tao(self) -> float:
        """Free balance of our coldkey."""
        ...

    async def register(self) -> int:
        """Our uid, after registering the hotkey by burn unless it is registered already."""
        ...

    async def publish_axon(self, address: AxonAddress) -> bool:
        """Publish where we serve, unless the chain shows it already; whether a transaction was needed."""
        ...

    async def commit(self, payload: bytes) -> int:
        """Write `payload`, at most MAX_COMMITMENT_BYTES, into our slot unless it stands there; the block it stands in."""
        ...

    async def set_weights(
        self, shares: Mapping[int, float], *, version_key: int, lifetime_blocks: int = LIFETIME_BLOCKS
    ) -> WeightsReceipt:
        """Set our weights, uid -> share, in the regime the subnet is in (plaintext or commit-reveal).

        They arrive as they are: u16 values of which the largest is 65535 unchanged, others scaled to that. What the subnet's limits don't
        allow is refused (weight_vec_length_is_low, max_weight_exceeded), never bent. A call that is not included within `lifetime_blocks`
        (a power of two) never will be.
        """
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...
