from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradients.ml.schedule import Every, Schedule, TimeBox, rate_factor


@pytest.mark.parametrize(
    ("schedule", "progress", "factor"),
    [
        ("linear", 0.0, 0.0),
        ("linear", 0.1, 0.5),  # half of the warm-up
        ("linear", 0.2, 1.0),
        ("linear", 0.6, 0.5),  # half of what is left
        ("linear", 1.0, 0.0),
        ("cosine", 0.6, 0.5),
        ("cosine", 1.0, 0.0),
        ("constant", 0.1, 0.5),
        ("constant", 1.0, 1.0),
        ("linear", 1.5, 0.0),  # past the end
    ],
)
def test_the_rate_rises_then_falls_to_zero_at_the_end(schedule: Schedule, progress: float, factor: float) -> None:
    assert rate_factor(progress, schedule=schedule, warmup_fraction=0.2) == pytest.approx(factor)


def test_without_warm_up_the_rate_starts_at_its_peak() -> None:
    assert rate_factor(0.0, schedule="linear", warmup_fraction=0.0) == 1.0


@given(
    st.sampled_from(["linear", "cosine", "constant"]),
    st.floats(min_value=-1, max_value=2),
    st.floats(min_value=0, max_value=0.5),
)
def test_the_factor_is_a_share(schedule: Schedule, progress: float, warmup: float) -> None:
    assert 0 <= rate_factor(progress, schedule=schedule, warmup_fraction=warmup) <= 1


def test_training_ends_early_enough_to_choose_and_to_save() -> None:
    box = TimeBox(started=1000.0, deadline=1100.0, validation_seconds=2.0, saving_seconds=1.0)
    # 100 s, less 1.5 validations (3 s), 3 savings (3 s) and 2 % to spare (2 s)
    assert box.training_ends == pytest.approx(1092.0)


def test_a_short_budget_keeps_a_second_to_spare() -> None:
    assert TimeBox(started=0.0, deadline=10.0).training_ends == pytest.approx(9.0)


@pytest.mark.parametrize(("now", "fraction"), [(0.0, 0.0), (15.0, 0.5), (99.0, 1.0)])
def test_the_fraction_of_the_budget_stays_in_its_bounds(now: float, fraction: float) -> None:
    assert TimeBox(started=10.0, deadline=20.0).fraction(now) == fraction


def test_every_speaks_once_per_while() -> None:
    hands = iter((0.0, 1.0, 2.0, 3.0, 3.9, 7.0, 8.0, 9.0))  # the first is read when it is made
    every = Every(2.0, lambda: next(hands))
    assert [every.due() for _ in range(7)] == [False, True, False, False, True, False, True]
