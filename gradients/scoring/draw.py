"""Who gets a task when more miners want it than it takes (paper, section 3.2)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from gradients.domain.task import Hotkey
from gradients.scoring.rules import Rules

LOWEST_CHANCE = 0.01


def draw_pool(
    candidates: Sequence[Hotkey], *, mean_points_today: Mapping[Hotkey, float], size: int, seed: int, rules: Rules
) -> list[Hotkey]:
    """At most `size` of the candidates without replacement; better miners more often, newcomers first of all.

    Args:
        candidates: who accepted the offer, in any order; the result does not depend on it.
        mean_points_today: of miners that had a task in the last day; others count as newcomers.
    """
    standing = {h: max(mean_points_today.get(h, rules.newcomer_chance), LOWEST_CHANCE) for h in candidates}
    ordered = sorted(candidates, key=lambda hotkey: (-standing[hotkey], hotkey))
    step = (rules.favourite_factor - 1.0) / max(len(ordered), 1)
    generator = random.Random(seed)
    # Efraimidis and Spirakis: the largest u^(1/w) are a weighted sample without replacement.
    keys = {h: generator.random() ** (1.0 / (rules.favourite_factor - rank * step)) for rank, h in enumerate(ordered)}
    return sorted(ordered, key=lambda hotkey: -keys[hotkey])[:size]
