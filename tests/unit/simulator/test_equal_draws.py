"""The alphabet has no say in who gets a task."""

from __future__ import annotations

import numpy as np

from gradients.domain.task import Hotkey
from gradients.scoring.contest import SCHEDULED, Result
from gradients.scoring.rules import rules_of

DRAWS, POOL, EQUALS = 20_000, 15, 60


def test_the_first_ten_of_sixty_equals_are_drawn_as_often_as_the_last_ten() -> None:
    hotkeys = [Hotkey(f"5{i:02}") for i in range(EQUALS)]
    shown = [Result("t", "chat", SCHEDULED, h, 0.1, 0.1, 1.0, 1.0, False, None, 1, 0.0, 2) for h in hotkeys]
    drawn = np.zeros(EQUALS)
    for seed in range(DRAWS):
        for hotkey in rules_of(2).draw(hotkeys, results=shown, now=0.0, size=POOL, seed=seed):
            drawn[int(hotkey[1:])] += 1
    first, last = drawn[:10].sum() / DRAWS, drawn[-10:].sum() / DRAWS
    # How many of ten are among 15 of 60: hypergeometric, with a mean of 2.5.
    noise = np.sqrt(10 * 0.25 * 0.75 * 50 / 59 / DRAWS)
    assert abs(first - 2.5) < 4 * noise
    assert abs(last - 2.5) < 4 * noise
