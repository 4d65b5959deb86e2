"""What is read off a run."""

from __future__ import annotations

import numpy as np
import pytest

from gradients.domain.task import Hotkey
from gradients.simulator.consensus import agreement
from gradients.simulator.figures import figures, interval, ratio_interval, spearman
from gradients.simulator.market import Market, Miner


def _market(*miners: tuple[str, float, int]) -> Market:
    named = [Miner(Hotkey(f"h{i}"), group, skill=s, first_day=d) for i, (group, s, d) in enumerate(miners)]
    return Market("made", tuple(named))


def test_weeks_after_the_first_count_by_whom_they_pay_most() -> None:
    weights = np.full((21, 2), 0.5)
    weights[:7] = [0, 1]  # the warm-up
    weights[7:14] = [0.75, 0.25]
    weights[14:] = [0.25, 0.75]
    found = figures(_market(("honest", 1.0, 0), ("idle", 0.0, 0)), weights)
    assert (found.weeks, found.best_paid_most) == (2, 0.5)
    assert found.pay == {"honest": 0.5, "idle": 0.5}
    assert found.change_per_day == pytest.approx(0.5 / 13)  # one change of a half in 13 steps


def test_a_newcomers_days_are_counted_from_its_first() -> None:
    weights = np.zeros((40, 2))
    weights[:, 0], weights[20, 1], weights[21, 1], weights[22:, 1] = 1.0, 0.4, 0.6, 1.0
    found = figures(_market(("honest", 1.0, 0), ("newcomer", 1.1, 20)), weights)
    assert found.newcomer_days == {"50": 2.0, "90": 3.0}


def test_rank_correlation_shares_ranks_among_equals() -> None:
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 5.0, 100.0])) == pytest.approx(1.0)
    assert spearman(np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(np.sqrt(3) / 2)
    assert spearman(np.zeros(3), np.arange(3.0)) == 0.0


def test_the_interval_is_students() -> None:
    assert interval([1.0]) == [1.0, 1.0]
    assert interval([0.0, 1.0, 2.0]) == pytest.approx([1 - 4.303 / np.sqrt(3), 1 + 4.303 / np.sqrt(3)])


def test_the_interval_of_a_ratio_is_nothing_wide_where_all_seeds_agree() -> None:
    assert ratio_interval([2.0], [1.0]) == [2.0, 2.0]
    assert ratio_interval([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]) == pytest.approx([2.0, 2.0])
    low, high = ratio_interval([2.0, 4.0, 7.0], [1.0, 2.0, 3.0])
    assert low < 13 / 6 < high


def test_validators_of_one_mind_are_trusted_and_one_apart_is_not() -> None:
    alike = np.tile([0.5, 0.5, 0.0, 0.0], (3, 14, 1))
    assert agreement(alike).trust == pytest.approx(1.0)
    alike[2] = [0.0, 0.0, 0.5, 0.5]
    assert agreement(alike).trust == pytest.approx(2 / 3)


def test_who_copies_calm_weights_is_paid_for_its_stake_as_the_others_are() -> None:
    found = agreement(np.tile([0.7, 0.3], (3, 30, 1)), copiers=1)
    assert found.copiers_trust == pytest.approx(1.0)
    assert found.copiers_pay == pytest.approx(1.0, abs=0.01)
