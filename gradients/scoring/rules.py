"""The rules of pay, versioned by block height: a changed rule is a new entry, never an edit.

Version 1 is the paper's (arXiv 2506.07940, section 4, with the constants of its public code where the text is silent).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Rules:
    """Every constant that leads from measurements to weights."""

    version: int
    from_block: int
    first_points: float  # the best entrant
    last_points: float  # the bottom quarter of a large field, and a miner's own failure
    large_field: int  # the bottom quarter loses points only when more entrants than this have a measurement
    size_floor_billions: float  # base models count as at least this many parameters …
    size_cap_billions: float  # … and at most this many
    windows: tuple[tuple[float, float], ...]  # (days, share of the weight)
    type_shares: Mapping[
        str, float
    ]  # of task types that were active; the rest is spread over them. Others are paid as they declare
    sigmoid_steepness: float
    sigmoid_centre: float
    sigmoid_power: float
    sigmoid_share: float
    linear_share: float
    newcomer_chance: float  # draw weight of a miner without a task today
    favourite_factor: float  # the best miner is drawn this much more often than the last


VERSION_1 = Rules(
    version=1,
    from_block=0,
    first_points=3.0,
    last_points=-1.0,
    large_field=8,
    size_floor_billions=1.0,
    size_cap_billions=40.0,
    windows=((1.0, 0.3), (3.0, 0.3), (7.0, 0.4)),
    type_shares=MappingProxyType(
        {"instruct": 0.20, "chat": 0.10, "rag": 0.05, "dpo": 0.10, "grpo": 0.20, "diffusion": 0.35}
    ),
    sigmoid_steepness=9.0,
    sigmoid_centre=0.5,
    sigmoid_power=0.75,
    sigmoid_share=0.7,
    linear_share=0.05,
    newcomer_chance=2.0,
    favourite_factor=3.0,
)

SCHEDULE: tuple[Rules, ...] = (VERSION_1,)


def rules_at(block: int) -> Rules:
    """The rules in force at `block`."""
    return next(rules for rules in reversed(SCHEDULE) if rules.from_block <= block)
