"""Statistics of the recipes benchmark, on numbers that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.benchmarks.recipes.statistics import Match, bootstrap, compare, mean_gain, wilson


def match(ours: float, theirs: float, *, task: str = "a", seed: int = 1, failed: bool = False) -> Match:
    """Losses that are the same on all rows, so that drawing rows anew changes nothing."""
    return Match(task, seed, np.full(10, ours), np.full(10, theirs), failed=failed)


def test_wilsons_interval_is_the_published_one() -> None:
    # 8 of 10: (0.8 + 3.8415/20 ± 1.96 sqrt(0.16/10 + 3.8415/400)) / (1 + 3.8415/10) = 0.490, 0.943
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    # 0 of 10: from 0 to z²/(n + z²)
    assert wilson(0, 10) == pytest.approx((0.0, 3.8415 / 13.8415), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((10 / 13.8415, 1.0), abs=1e-4)


def test_a_gain_is_the_part_of_their_loss_that_we_save() -> None:
    assert match(1.5, 2.0).gain == pytest.approx(25.0)
    assert match(3.0, 2.0).gain == pytest.approx(-50.0)


def test_tasks_count_alike_however_many_seeds_they_have() -> None:
    matches = [match(1.0, 2.0, seed=seed) for seed in (1, 2, 3)] + [match(2.0, 2.0, task="b")]
    assert mean_gain(matches) == pytest.approx(25.0)  # (50 + 0) / 2, not (3 * 50 + 0) / 4


def test_equal_gains_leave_no_interval() -> None:
    found = bootstrap([match(1.0, 2.0, task=task) for task in "abc"])
    assert found == pytest.approx((50.0, 50.0, 50.0))


def test_the_interval_comes_from_drawing_tasks_anew() -> None:
    # two tasks with 0 and 40 %: a draw has the mean 0, 20 or 40 with probabilities 1/4, 1/2, 1/4
    found = bootstrap([match(2.0, 2.0, task="a"), match(1.2, 2.0, task="b")])
    assert found == pytest.approx((20.0, 0.0, 40.0))


def test_the_interval_comes_from_drawing_seeds_anew_where_there_is_one_task() -> None:
    found = bootstrap([match(2.0, 2.0, seed=1), match(1.2, 2.0, seed=2)])
    assert found == pytest.approx((20.0, 0.0, 40.0))


def test_the_interval_comes_from_drawing_rows_anew_where_there_is_one_run() -> None:
    rng = np.random.default_rng(0)
    theirs = np.ones(400)
    ours = 0.5 + 0.1 * rng.standard_normal(400)
    found = bootstrap([Match("a", 1, ours, theirs)])
    # the standard error of our mean is 0.1/20 = 0.005, of the gain 0.5 %, and 1.96 of these lie either way
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5, rel=0.15)
    assert found.low < found.mean < found.high


def test_rows_are_paired() -> None:
    losses = np.linspace(0.1, 5.0, 50)  # rows differ by far more than arms
    found = bootstrap([Match("a", 1, 0.9 * losses, losses)])
    assert found == pytest.approx((10.0, 10.0, 10.0))


def test_a_tie_is_half_a_win_and_a_failure_is_a_loss() -> None:
    matches = [
        match(1.0, 2.0, task="won"),
        match(1.9999, 2.0, task="tied"),
        match(2.1, 2.0, task="lost"),
        match(1.0, 2.0, task="failed", failed=True),
    ]
    found = compare(matches)
    assert (found.wins, found.ties, found.runs) == (1, 1, 4)
    assert found.win_rate.mean == pytest.approx(1.5 / 4)
    assert found.win_rate[1:] == pytest.approx(wilson(1.5, 4))
