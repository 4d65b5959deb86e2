"""What the chain says about a subnet at one block."""

from __future__ import annotations

from dataclasses import dataclass

from gradients.domain.task import Hotkey


@dataclass(frozen=True, slots=True)
class AxonAddress:
    """Where a neuron serves HTTP."""

    ip: str
    port: int

    def url(self, path: str = "") -> str:
        """The address as a URL with `path` (which starts with a slash) behind it."""
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"http://{host}:{self.port}{path}"


@dataclass(frozen=True, slots=True)
class Neuron:
    """One registered hotkey."""

    uid: int
    hotkey: Hotkey
    coldkey: str
    axon: AxonAddress | None
    validator_permit: bool
    stake_alpha: float  # alpha plus weighted root stake
    incentive: float  # share of the last epoch, 0..1
    dividends: float  # share of the last epoch, 0..1
    emission_alpha: float  # alpha earned in the last epoch
    last_update_block: int
    registered_at_block: int


@dataclass(frozen=True, slots=True)
class Metagraph:
    """A subnet at one block."""

    netuid: int
    block: int
    tempo_blocks: int
    last_epoch_block: int
    neurons: tuple[Neuron, ...]
    owner_hotkey: Hotkey
    weights_version: int  # the lowest version key that the subnet takes
    weights_rate_limit_blocks: int
    commit_reveal: bool
    min_allowed_weights: int = 1  # uids that a row of weights must name
    max_weight_limit: float = 1.0  # the largest part of a row's sum that one uid may have; n / 65535 on chain
    activity_cutoff_blocks: int = 5000  # a validator that sets no weights for longer counts for nothing

    @property
    def next_epoch_block(self) -> int:
        """When the next epoch is due: from then on this picture is of an epoch that is over."""
        return self.last_epoch_block + self.tempo_blocks

    def by_hotkey(self, hotkey: str) -> Neuron | None:
        """The neuron of `hotkey`, or None when it is not registered."""
        return next((neuron for neuron in self.neurons if neuron.hotkey == hotkey), None)


@dataclass(frozen=True, slots=True)
class Commitment:
    """What a hotkey has written on chain."""

    hotkey: Hotkey
    payload: bytes
    block: int
    extrinsic_index: int | None = (
        None  # its place in the block; known only where another commitment stands in the same block
    )


@dataclass(frozen=True, slots=True)
class WeightsReceipt:
    """Proof that the chain took our weights."""

    block: int  # LastUpdate of our uid afterwards
    reveal_round: int | None  # set in the commit-reveal regime
