"""Places and points of one task."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradients.domain.evaluation import Placing
from gradients.domain.failure import Failure
from gradients.domain.task import Hotkey
from gradients.errors import Blame
from gradients.scoring.placing import Entry, place, size_factor
from gradients.scoring.rules import VERSION_1

BASE_VALUE = 4.0


def _measured(name: str, value: float, *, block: int = 10) -> Entry:
    return Entry(Hotkey(name), value, block)


def _failed(name: str, blame: Blame) -> Entry:
    return Entry(Hotkey(name), None, 0, Failure(blame, "broken", "it broke"))


def _place(*entries: Entry) -> dict[str, Placing]:
    placings = place(entries, base_value=BASE_VALUE, better="lower", factor=1.0, rules=VERSION_1)
    return {placing.hotkey: placing for placing in placings}


def test_the_best_gets_three_points_and_the_others_none() -> None:
    placed = _place(_measured("a", 3.0), _measured("b", 2.0), _measured("c", 3.5))
    assert {name: (p.rank, p.points) for name, p in placed.items()} == {"b": (1, 3.0), "a": (2, 0.0), "c": (3, 0.0)}


def test_higher_is_better_where_the_metric_says_so() -> None:
    entries = [_measured("a", 0.2), _measured("b", 0.9)]
    placings = place(entries, base_value=0.1, better="higher", factor=1.0, rules=VERSION_1)
    assert [placing.hotkey for placing in placings] == ["b", "a"]


def test_the_best_wins_even_when_every_value_is_negative() -> None:
    entries = [_measured("worse", -0.52), _measured("better", -0.50)]
    placings = place(entries, base_value=-1.0, better="higher", factor=1.0, rules=VERSION_1)
    assert placings[0].hotkey == "better"


def test_the_bottom_quarter_loses_a_point_only_in_a_field_of_more_than_eight() -> None:
    eight = _place(*(_measured(f"m{i}", 2.0 + i / 10) for i in range(8)))
    nine = _place(*(_measured(f"m{i}", 2.0 + i / 10) for i in range(9)))
    assert [p.points for p in eight.values()] == [3.0] + [0.0] * 7
    assert [p.points for p in nine.values()] == [3.0] + [0.0] * 6 + [-1.0] * 2  # 9 // 4 = 2


def test_of_two_equal_results_the_earlier_commitment_counts() -> None:
    placed = _place(_measured("late", 2.0, block=20), _measured("early", 2.0, block=19))
    assert placed["early"].rank == 1
    assert (placed["late"].rank, placed["late"].points) == (None, -1.0)


def test_the_base_handed_in_again_is_no_fine_tune() -> None:
    placed = _place(_measured("idle", BASE_VALUE), _measured("busy", 3.0))
    assert (placed["idle"].rank, placed["idle"].points) == (None, -1.0)
    assert _place(_measured("idle", BASE_VALUE))["idle"].points == 0.0  # nobody delivered: nobody loses


@pytest.mark.parametrize("blame", [Blame.OPERATOR, Blame.OUTSIDE, Blame.CUSTOMER])
def test_a_failure_that_is_not_the_miners_costs_nothing(blame: Blame) -> None:
    assert _place(_failed("unlucky", blame), _measured("other", 3.0))["unlucky"].points == 0.0


def test_a_miners_own_failure_costs_a_point_when_somebody_delivered() -> None:
    assert _place(_failed("late", Blame.MINER), _measured("other", 3.0))["late"].points == -1.0
    assert _place(_failed("late", Blame.MINER))["late"].points == 0.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_cannot_be_entered(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        _measured("cheat", value)


def test_an_entry_is_a_value_or_a_failure_never_both_or_none() -> None:
    with pytest.raises(ValueError):
        Entry(Hotkey("a"), None, 0)
    with pytest.raises(ValueError):
        Entry(Hotkey("a"), 1.0, 0, Failure(Blame.MINER, "x", "y"))


@pytest.mark.parametrize(
    ("parameters", "hours", "factor"),
    [
        (1_500_000, 0.0125, 1.0),  # 2·sqrt(1·0.0125) = 0.22, and at least 1
        (1_000_000_000, 1.0, 2.0),
        (4_000_000_000, 4.0, 8.0),  # 2·sqrt(16)
        (70_000_000_000, 10.0, 40.0),  # counted as 40 billion: 2·sqrt(400)
    ],
)
def test_larger_bases_and_longer_tasks_count_more(parameters: int, hours: float, factor: float) -> None:
    assert size_factor(parameters=parameters, hours=hours, rules=VERSION_1) == pytest.approx(factor)


VALUES = st.lists(st.floats(0.1, 9.9), min_size=1, max_size=12)


@given(values=VALUES, seed=st.integers(0, 999))
def test_the_order_of_entrants_changes_nothing(values: list[float], seed: int) -> None:
    entries = [_measured(f"m{i}", value, block=i) for i, value in enumerate(values)]
    shuffled = random.Random(seed).sample(entries, len(entries))
    assert _place(*entries) == _place(*shuffled)


@given(values=VALUES, blame=st.sampled_from(list(Blame)))
def test_a_failed_entrant_changes_nobody_elses_score(values: list[float], blame: Blame) -> None:
    entries = [_measured(f"m{i}", value, block=i) for i, value in enumerate(values)]
    alone, joined = _place(*entries), _place(*entries, _failed("zzz", blame))
    assert {name: p for name, p in joined.items() if name != "zzz"} == alone


@given(values=VALUES)
def test_a_lower_loss_never_has_a_worse_rank(values: list[float]) -> None:
    placed = _place(*(_measured(f"m{i}", value, block=i) for i, value in enumerate(values)))
    ranked = sorted((p.rank, values[int(name[1:])]) for name, p in placed.items() if p.rank)
    assert [value for _, value in ranked] == sorted(value for _, value in ranked)
