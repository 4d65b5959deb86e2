"""What a subnet's owner and the chain have set for everybody on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SubnetTerms:
    """Hyperparameters and prices of one subnet. What a chain does not keep is None, or not among the hyperparameters."""

    netuid: int
    hyperparameters: Mapping[
        str, int
    ]  # by the chain's names, as it keeps them: 0 or 1 for switches, fixed-point numbers as their bits
    price_tao: float  # of registering
    collateral_share: (
        float | None
    )  # part of the price that is locked and comes back with what is earned, instead of being burned
    is_open: bool | None  # whether its owner has started it
    emission_enabled: bool | None  # whether the chain may pay it

    @property
    def pays(self) -> bool | None:
        """Whether the chain can pay anybody on it; None where it does not say."""
        known = [each for each in (self.is_open, self.emission_enabled) if each is not None]
        return all(known) if known else None
