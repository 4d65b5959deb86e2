"""From points to shares of the weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradients.domain.chain import Metagraph, Neuron
from gradients.domain.task import Hotkey
from gradients.scoring.draw import draw_pool
from gradients.scoring.rules import SCHEDULE, VERSION_1, rules_at
from gradients.scoring.standings import SECONDS_PER_DAY, ScoredPoints, curve, shares
from gradients.scoring.weights import weights_by_uid

NOW = 1_000_000.0


def _points(name: str, points: float, *, days_ago: float = 0.0, kind: str = "instruct") -> ScoredPoints:
    return ScoredPoints(Hotkey(name), kind, points, points, NOW - days_ago * SECONDS_PER_DAY)


def _shares(*records: ScoredPoints, declared: Mapping[str, float] = MappingProxyType({})) -> dict[str, float]:
    found = shares(records, now=NOW, rules=VERSION_1, declared_shares=declared)
    return {str(hotkey): share for hotkey, share in found.items()}


@pytest.mark.parametrize(("x", "expected"), [(1.0, 0.744), (0.5, 0.441), (0.0, 0.024)])
def test_the_curve_is_the_papers(x: float, expected: float) -> None:
    assert curve(x, VERSION_1) == pytest.approx(expected, abs=5e-4)


def test_one_task_pays_the_winner_by_the_curve() -> None:
    paid = _shares(_points("first", 3.0), _points("second", 0.0), _points("third", 0.0))
    whole = curve(1.0, VERSION_1) + 2 * curve(0.0, VERSION_1)
    assert paid["first"] == pytest.approx(curve(1.0, VERSION_1) / whole)
    assert paid["second"] == paid["third"] == pytest.approx(curve(0.0, VERSION_1) / whole)


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
    expected = VERSION_1.type_shares["diffusion"] / VERSION_1.type_shares["instruct"]
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
def test_shares_sum_to_one_or_there_are_none(records: list[ScoredPoints]) -> None:
    paid = _shares(*records)
    assert not paid or math.isclose(sum(paid.values()), 1.0)
    assert all(share > 0 for share in paid.values())


@given(records=RECORDS)
def test_another_win_never_lowers_a_miners_share(records: list[ScoredPoints]) -> None:
    # All of today: a window in which nobody had earned anything counts from its first win on, and pays the others in it something, too.
    today = [replace(record, scored_at=NOW) for record in records]
    before = _shares(*today).get("m0", 0.0)
    after = _shares(*today, _points("m0", 3.0)).get("m0", 0.0)
    assert after >= before - 1e-12


def test_the_rules_in_force_are_found_by_block() -> None:
    assert rules_at(0) is SCHEDULE[0]
    assert [rules.from_block for rules in SCHEDULE] == sorted(rules.from_block for rules in SCHEDULE)


def test_type_shares_of_version_one_sum_to_one() -> None:
    assert sum(VERSION_1.type_shares.values()) == pytest.approx(1.0)


def _metagraph(*hotkeys: str) -> Metagraph:
    neurons = tuple(
        Neuron(
            uid=uid,
            hotkey=Hotkey(hotkey),
            coldkey="c",
            axon=None,
            validator_permit=False,
            stake_alpha=0.0,
            incentive=0.0,
            dividends=0.0,
            emission_alpha=0.0,
            last_update_block=0,
            registered_at_block=0,
        )
        for uid, hotkey in enumerate(hotkeys)
    )
    return Metagraph(
        netuid=1,
        block=1,
        tempo_blocks=10,
        last_epoch_block=0,
        neurons=neurons,
        owner_hotkey=Hotkey("owner"),
        weights_version=0,
        weights_rate_limit_blocks=0,
        commit_reveal=False,
    )


def test_weights_go_to_the_uids_that_are_registered_now() -> None:
    given_shares = {Hotkey("a"): 0.6, Hotkey("gone"): 0.2, Hotkey("b"): 0.2}
    assert weights_by_uid(given_shares, _metagraph("owner", "b", "a")) == pytest.approx({1: 0.25, 2: 0.75})


def test_weight_that_nobody_earned_is_burned_by_the_owner() -> None:
    assert weights_by_uid({}, _metagraph("a", "owner")) == {1: 1.0}
    assert weights_by_uid({}, _metagraph("a")) == {}


def test_a_pool_takes_everybody_when_there_is_room() -> None:
    names = [Hotkey(f"m{i}") for i in range(5)]
    assert sorted(draw_pool(names, mean_points_today={}, size=8, seed=1, rules=VERSION_1)) == names


def test_the_draw_depends_on_the_seed_and_not_on_the_order() -> None:
    names = [Hotkey(f"m{i}") for i in range(20)]
    one = draw_pool(names, mean_points_today={}, size=5, seed=1, rules=VERSION_1)
    assert one == draw_pool(names[::-1], mean_points_today={}, size=5, seed=1, rules=VERSION_1)
    assert any(one != draw_pool(names, mean_points_today={}, size=5, seed=s, rules=VERSION_1) for s in range(2, 9))


def test_the_best_miner_is_drawn_about_three_times_as_often_as_the_last() -> None:
    names = [Hotkey(f"m{i:02}") for i in range(10)]
    means = {name: 3.0 - 0.3 * i for i, name in enumerate(names)}
    drawn = [draw_pool(names, mean_points_today=means, size=1, seed=s, rules=VERSION_1)[0] for s in range(4000)]
    assert 2.0 < drawn.count(names[0]) / drawn.count(names[-1]) < 4.0  # weights 3.0 and 1.2: expected 2.5
