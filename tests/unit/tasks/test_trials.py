"""Which rows are tried with a base."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from gradients.tasks.trials import LONGEST_ROWS, SPREAD_ROWS, tried_rows


def test_all_rows_of_a_small_set_are_tried() -> None:
    assert tried_rows([5, 1, 3]) == [0, 1, 2]


@given(st.integers(LONGEST_ROWS + SPREAD_ROWS + 1, 3000), st.integers(0, 50), st.integers(0, 2**32))
def test_of_a_large_set_the_longest_and_rows_from_end_to_end_are_tried(rows: int, most: int, seed: int) -> None:
    draw = random.Random(seed)
    lengths = [draw.randint(0, most) for _ in range(rows)]
    chosen = tried_rows(lengths)
    assert chosen == sorted(set(chosen))
    assert SPREAD_ROWS <= len(chosen) <= LONGEST_ROWS + SPREAD_ROWS
    left_out = set(range(len(lengths))) - set(chosen)
    longest = sorted((lengths[position] for position in chosen), reverse=True)[LONGEST_ROWS - 1]
    assert all(lengths[position] <= longest for position in left_out)
    assert max(after - before for before, after in itertools.pairwise(chosen)) <= len(lengths) // SPREAD_ROWS + 1
