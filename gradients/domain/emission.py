"""What the chain pays a subnet in TAO, and what burning costs it (subtensor: coinbase/subnet_emissions.rs, since release 446).

Of every block's TAO a subnet gets a part by the average price of its alpha, times one minus the part of its miners' incentive that went to
its owner's hotkeys in the last epoch (`MinerBurned`), times a gate that passes little of what lies below a bar.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class SubnetDemand:
    """What a subnet is paid by. Subnets that may not emit yet have none."""

    price: float  # moving average of its alpha's price, TAO
    miner_burned: float  # part of the last epoch's incentive that went to the owner's hotkeys, 0..1
    enabled: bool = True  # whether its emission is switched on


@dataclass(frozen=True, slots=True)
class EmissionTerms:
    """Every subnet's demand and the gate, at one block."""

    subnets: Mapping[int, SubnetDemand]  # by netuid, root left out
    gate_bar: float  # share of the demand at which the gate passes half; 0 switches the gate off
    gate_exponent: float  # how sharp the gate is

    def shares(self) -> dict[int, float]:
        """Each subnet's part of a block's TAO; they sum to 1 where any is paid.

        As on the chain: where every subnet burns everything, it is as if nobody burned, and a gate that passes nothing counts as open.
        """
        prices = {netuid: max(0.0, subnet.price) for netuid, subnet in self.subnets.items()}
        kept = {netuid: prices[netuid] * (1 - min(1.0, each.miner_burned)) for netuid, each in self.subnets.items()}
        demand = _normalized(kept) or _normalized(prices)
        gated = _normalized({netuid: share * self._gate(share) for netuid, share in demand.items()}) or demand
        paid = {netuid: share if self.subnets[netuid].enabled else 0.0 for netuid, share in gated.items()}
        return _normalized(paid) or dict.fromkeys(self.subnets, 0.0)

    def share_if(self, netuid: int, *, miner_burned: float) -> float:
        """What the subnet's part would be if its owner's hotkeys got `miner_burned` of the incentive and no other subnet changed."""
        if netuid not in self.subnets:
            return 0.0
        changed = {**self.subnets, netuid: replace(self.subnets[netuid], miner_burned=miner_burned)}
        return replace(self, subnets=changed).shares()[netuid]

    def _gate(self, share: float) -> float:
        """s^h / (s^h + bar^h), as a power of the smaller over the larger: neither overflows."""
        if self.gate_bar <= 0:
            return 1.0
        if share >= self.gate_bar:
            return 1 / (1 + math.pow(self.gate_bar / share, self.gate_exponent))
        power = math.pow(share / self.gate_bar, self.gate_exponent)
        return power / (1 + power)


def _normalized(amounts: Mapping[int, float]) -> dict[int, float]:
    """The amounts as parts of their sum; empty when that is 0."""
    total = math.fsum(amounts.values())
    return {netuid: amount / total for netuid, amount in amounts.items()} if total > 0 else {}
