"""Which of several comes next, so that in the long run each has its share."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TypeVar

Key = TypeVar("Key")


def draw(shares: Mapping[Key, float], counts: Mapping[Key, int], rng: random.Random) -> Key:
    """Which comes next, so that counts keep to shares: one that lags behind its share, the likelier the further it does.

    No count is ever more than one above its share. `shares` need not add up to one, but one of them is positive.
    """
    whole = sum(shares.values())
    total = sum(counts.get(key, 0) for key in shares)
    lag = {key: share / whole * (total + 1) - counts.get(key, 0) for key, share in shares.items()}
    behind = [key for key in shares if lag[key] > 0]  # never empty: the lags add up to one
    return rng.choices(behind, [lag[key] for key in behind])[0]
