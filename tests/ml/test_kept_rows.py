"""Which rows a trainer keeps from training, to choose by."""

from __future__ import annotations

import pytest

from gradients.ml.objective import split_validation


@pytest.mark.parametrize(
    ("rows", "fraction", "kept"),
    [
        (19, 0.5, 0),  # too few to choose by
        (100, 0.0, 0),  # nobody asked for any
        (48, 0.04, 4),  # a tenth, not 2
        (160, 0.04, 8),  # eight, not 6
        (160, 0.08, 13),  # what is asked for is enough
        (1_000, 0.04, 40),
        (10_000, 0.04, 256),
    ],
)
def test_a_small_share_of_few_rows_still_leaves_some_to_choose_by(rows: int, fraction: float, kept: int) -> None:
    train, validation = split_validation(rows, fraction=fraction, seed=1)
    assert len(validation) == kept
    assert sorted(train + validation) == list(range(rows))


def test_who_asks_for_fewer_gets_some_of_the_rows_that_a_trainer_keeps() -> None:
    _, all_kept = split_validation(100, fraction=0.2, seed=3)
    _, some = split_validation(100, fraction=0.2, seed=3, most=5)
    assert len(some) == 5
    assert set(some) < set(all_kept)
