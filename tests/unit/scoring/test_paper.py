"""Version 1 of the rules, the paper's: places, points, shares and draws."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradients.domain.evaluation import Better, Placing
from gradients.domain.failure import Failure
from gradients.domain.task import Hotkey
from gradients.errors import Blame
from gradients.scoring.contest import Contest, Entry, Result
from gradients.scoring.paper import SECONDS_PER_DAY
from gradients.scoring.rules import PAPER, shares_of

BASE_VALUE = 4.0


def _measured(name: str, value: float, *, block: int = 10) -> Entry:
    return Entry(Hotkey(name), (value,) * 2, block)


def _failed(name: str, blame: Blame) -> Entry:
    return Entry(Hotkey(name), (), failure=Failure(blame, "broken", "it broke"))


def _contest(*entries: Entry, base: float = BASE_VALUE, better: Better = "lower") -> Contest:
    return Contest(entries, (base,) * 2, better, base_parameters=1, hours=0.1)


def _place(*entries: Entry) -> dict[str, Placing]:
    return {placing.hotkey: placing for placing in PAPER.place(_contest(*entries))}


def test_the_best_gets_three_points_and_the_others_none() -> None:
    placed = _place(_measured("a", 3.0), _measured("b", 2.0), _measured("c", 3.5))
    assert {name: (p.rank, p.points) for name, p in placed.items()} == {"b": (1, 3.0), "a": (2, 0.0), "c": (3, 0.0)}


def test_higher_is_better_where_the_metric_says_so() -> None:
    placings = PAPER.place(_contest(_measured("a", 0.2), _measured("b", 0.9), base=0.1, better="higher"))
    assert [placing.hotkey for placing in placings] == ["b", "a"]


def test_the_best_wins_even_when_every_value_is_negative() -> None:
    placings = PAPER.place(_contest(_measured("worse", -0.52), _measured("better", -0.50), base=-1.0, better="higher"))
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


def test_a_copy_names_the_one_that_it_measures_as() -> None:
    placed = _place(_measured("first", 2.0), _measured("second", 3.0), _measured("copy", 3.0, block=20))
    assert (placed["copy"].rank, placed["copy"].copy_of) == (None, "second")


def test_even_what_is_worse_than_the_base_has_a_place() -> None:
    """One of the faults that version 2 mends."""
    assert _place(_measured("bad", BASE_VALUE + 1))["bad"].points == 3.0


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
        Entry(Hotkey("a"), ())
    with pytest.raises(ValueError):
        Entry(Hotkey("a"), (1.0,), failure=Failure(Blame.MINER, "x", "y"))


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
    assert PAPER.factor(parameters=parameters, hours=hours) == pytest.approx(factor)


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


NOW = 1_000_000.0


def _points(name: str, points: float, *, days_ago: float = 0.0, kind: str = "instruct") -> Result:
    return Result(
        task_id="t",
        task_type=kind,
        customer="schedule",
        hotkey=Hotkey(name),
        points=points,
        adjusted_points=points,
        factor=1.0,
        gain=None,
        copied=False,
        fault=None,
        deadline_block=0,
        scored_at=NOW - days_ago * SECONDS_PER_DAY,
        rules_version=1,
    )


def _shares(*records: Result, declared: Mapping[str, float] = MappingProxyType({})) -> dict[str, float]:
    found = shares_of(PAPER.account(records, now=NOW, declared_shares=declared))
    return {str(hotkey): share for hotkey, share in found.items()}


@pytest.mark.parametrize(("x", "expected"), [(1.0, 0.744), (0.5, 0.441), (0.0, 0.024)])
def test_the_curve_is_the_papers(x: float, expected: float) -> None:
    assert PAPER.curve(x) == pytest.approx(expected, abs=5e-4)


def test_one_task_pays_the_winner_by_the_curve() -> None:
    paid = _shares(_points("first", 3.0), _points("second", 0.0), _points("third", 0.0))
    whole = PAPER.curve(1.0) + 2 * PAPER.curve(0.0)
    assert paid["first"] == pytest.approx(PAPER.curve(1.0) / whole)
    assert paid["second"] == paid["third"] == pytest.approx(PAPER.curve(0.0) / whole)


def test_whoever_loses_more_than_it_wins_gets_nothing() -> None:
    assert "failing" not in _shares(_points("first", 3.0), _points("failing", -1.0))


def test_nobody_is_paid_when_nobody_has_earned() -> None:
    assert _shares(_points("a", 0.0), _points("b", -1.0)) == {}
    assert _shares() == {}


def test_old_points_leave_the_short_windows_first() -> None:
    paid = _shares(_points("fresh", 3.0), _points("old", 3.0, days_ago=2.0))
    # 1-day window: fresh alone (0.3); 3-day and 7-day windows: both alike (0.7 halved).
    assert paid["fresh"] == pytest.approx(0.3 + 0.35)
    assert paid["old"] == pytest.approx(0.35)


def test_points_older_than_the_longest_window_are_forgotten() -> None:
    assert _shares(_points("ancient", 3.0, days_ago=7.1)) == {}


def test_task_types_share_the_weight_by_the_rules() -> None:
    paid = _shares(_points("text", 3.0, kind="instruct"), _points("image", 3.0, kind="diffusion"))
    expected = PAPER.type_shares["diffusion"] / PAPER.type_shares["instruct"]
    assert paid[Hotkey("image")] / paid[Hotkey("text")] == pytest.approx(expected)


def test_a_type_that_the_rules_do_not_name_is_paid_as_it_declares() -> None:
    """0.60 beside instruct's 0.20: three quarters of the weight."""
    paid = _shares(_points("text", 3.0), _points("song", 3.0, kind="song"), declared={"song": 0.60})
    assert paid == pytest.approx({"song": 0.75, "text": 0.25})


def test_what_the_rules_say_of_a_type_goes_before_its_declaration() -> None:
    records = _points("text", 3.0), _points("image", 3.0, kind="diffusion")
    assert _shares(*records, declared={"instruct": 0.9, "diffusion": 0.1}) == _shares(*records)


def test_a_type_that_nobody_knows_pays_nothing_and_stops_nothing() -> None:
    assert _shares(_points("text", 3.0), _points("ghost", 3.0, kind="gone")) == {"text": 1.0}
    assert _shares(_points("ghost", 3.0, kind="gone")) == {}


RECORDS = st.lists(
    st.builds(
        lambda name, points, days: _points(f"m{name}", points, days_ago=days),
        st.integers(0, 5),
        st.sampled_from([3.0, 0.0, -1.0]),
        st.floats(0, 8),
    ),
    max_size=30,
)


@given(records=RECORDS)
def test_shares_sum_to_one_or_there_are_none(records: list[Result]) -> None:
    paid = _shares(*records)
    assert not paid or math.isclose(sum(paid.values()), 1.0)
    assert all(share > 0 for share in paid.values())


@given(records=RECORDS)
def test_another_win_never_lowers_a_miners_share(records: list[Result]) -> None:
    # All of today: a window in which nobody had earned anything counts from its first win on, and pays the others in it something, too.
    today = [replace(record, scored_at=NOW) for record in records]
    before = _shares(*today).get("m0", 0.0)
    after = _shares(*today, _points("m0", 3.0)).get("m0", 0.0)
    assert after >= before - 1e-12


def test_type_shares_of_version_one_sum_to_one() -> None:
    assert sum(PAPER.type_shares.values()) == pytest.approx(1.0)


def test_a_pool_takes_everybody_when_there_is_room() -> None:
    names = [Hotkey(f"m{i}") for i in range(5)]
    assert sorted(PAPER.draw(names, results=[], now=NOW, size=8, seed=1)) == names


def test_the_draw_depends_on_the_seed_and_not_on_the_order() -> None:
    names = [Hotkey(f"m{i}") for i in range(20)]
    one = PAPER.draw(names, results=[], now=NOW, size=5, seed=1)
    assert one == PAPER.draw(names[::-1], results=[], now=NOW, size=5, seed=1)
    assert any(one != PAPER.draw(names, results=[], now=NOW, size=5, seed=s) for s in range(2, 9))


def test_whose_large_tasks_went_wrong_is_paid_for_presence_at_most() -> None:
    """Points 3 and -1 have a mean of 1; adjusted ones of 3 and -10 make the score negative, which counts as nothing."""
    lost = replace(_points("unlucky", -1.0), adjusted_points=-10.0)
    paid = _shares(_points("first", 3.0), _points("unlucky", 3.0), lost)
    assert paid["unlucky"] == pytest.approx(PAPER.curve(0.0) / (PAPER.curve(0.0) + PAPER.curve(1.0)))


def test_the_draw_goes_by_the_last_day_up_to_its_last_second() -> None:
    names = [Hotkey(f"m{i}") for i in range(6)]

    def drawn(*results: Result) -> list[list[Hotkey]]:
        return [PAPER.draw(names, results=results, now=NOW, size=3, seed=seed) for seed in range(40)]

    today = [_points(name, float(i)) for i, name in enumerate(names)]
    assert drawn(*today) == drawn(*(replace(each, scored_at=NOW - 86_400) for each in today)) != drawn()
    assert drawn(*(_points(name, float(i), days_ago=1.001) for i, name in enumerate(names))) == drawn()


def test_the_best_miner_is_drawn_about_three_times_as_often_as_the_last() -> None:
    names = [Hotkey(f"m{9 - i:02}") for i in range(10)]  # against the alphabet
    results = [_points(name, 3.0 - 0.3 * i) for i, name in enumerate(names)]
    drawn = [PAPER.draw(names, results=results, now=NOW, size=1, seed=s)[0] for s in range(4000)]
    assert 2.0 < drawn.count(names[0]) / drawn.count(names[-1]) < 4.0  # weights 3.0 and 1.2: expected 2.5
