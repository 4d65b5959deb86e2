"""Version 2's draw: by rating, by lot and by reliability, and never by the alphabet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from gradients.domain.task import Hotkey
from gradients.errors import Blame
from gradients.scoring.contest import Result
from gradients.scoring.lots import DrawRules, Standing, standings
from gradients.scoring.rules import CHANCE
from tests.unit.scoring.fields import result


def _draw(names: Sequence[str], results: Sequence[Result] = (), *, size: int, seed: int) -> list[str]:
    return [str(h) for h in CHANCE.draw([Hotkey(n) for n in names], results=results, now=0.0, size=size, seed=seed)]


def _history(gains: dict[str, float], *, tasks: int = 5, first: int = 0) -> list[Result]:
    return [
        result(name, 0.0, task=f"t{i:03}", block=1000 + i, gain=gain)
        for i in range(first, first + tasks)
        for name, gain in gains.items()
    ]


def _standing(*results: Result) -> Standing:
    return standings(results, DrawRules(memory=0.5, reliable_memory=0.75))[Hotkey("m")]


def test_a_rating_is_the_gain_in_parts_of_the_tasks_best_and_fades() -> None:
    """First half of the best, then all of it: 1/2·1/2 + 1/2·1. A rating is -1 at worst, a copy shows 0."""
    first = [result("best", 0.0, task="t1", block=1, gain=2.0), result("m", 0.0, task="t1", block=1, gain=1.0)]
    second = [result("m", 0.0, task="t2", block=2, gain=4.0), result("other", 0.0, task="t2", block=2, gain=3.0)]
    assert _standing(*first).rating == 0.5
    assert _standing(*second, *first).rating == 0.75
    ruin = result("m", 0.0, task="t1", block=1, gain=-9.0)
    assert _standing(first[0], ruin).rating == -1.0
    copy = result("m", 0.0, task="t1", block=1, gain=2.0, copied=True)
    assert _standing(first[0], copy).rating == 0.0


def test_reliability_is_what_was_delivered_of_what_was_begun_and_fades() -> None:
    """From one delivered: 3/4 + 1 delivered after the first task; 3/4 of that beside one missed after the second."""
    done = result("m", 0.0, task="t1", block=1)
    silent = result("m", 0.0, task="t2", block=2, fault=Blame.MINER)
    once, twice = _standing(done), _standing(silent, done)
    assert (once.delivered, once.missed, once.reliability) == (1.75, 0.0, 1.0)
    assert (twice.delivered, twice.missed) == (1.3125, 1.0)
    assert twice.reliability == 1.3125 / 2.3125
    thrice = _standing(done, silent, result("m", 0.0, task="t3", block=3, fault=Blame.OUTSIDE))
    assert thrice.missed == 1.75
    ours = result("m", 0.0, task="t3", block=3, fault=Blame.OPERATOR)
    assert _standing(done, silent, ours) == twice


def test_whoever_gained_nothing_where_nobody_did_has_no_rating() -> None:
    assert _standing(result("m", 0.0, task="t1", block=1, gain=0.0)).rating is None


def test_a_pool_takes_everybody_when_there_is_room() -> None:
    names = [f"m{i}" for i in range(5)]
    assert sorted(_draw(names, _history(dict.fromkeys(names, 1.0)), size=8, seed=1)) == names
    assert _draw([], size=8, seed=1) == []


def test_the_draw_depends_on_the_seed_and_on_no_order() -> None:
    names = [f"m{i}" for i in range(20)]
    history = _history({name: 1.0 + i for i, name in enumerate(names[:10])})
    one = _draw(names, history, size=8, seed=1)
    assert one == _draw(names[::-1], history[::-1], size=8, seed=1)
    assert any(one != _draw(names, history, size=8, seed=seed) for seed in range(2, 9))
    assert len(set(one)) == 8


def test_among_equals_the_alphabet_says_nothing() -> None:
    """60 equals, 15 places: 4,000 draws; each hotkey's chance is a quarter, and ten of them together spread by 87 in 10,000."""
    names = [f"m{i:02}" for i in range(60)]
    history = _history(dict.fromkeys(names, 1.0), tasks=1)
    drawn = Counter(name for seed in range(4000) for name in _draw(names, history, size=15, seed=seed))
    first, last = (sum(drawn[name] for name in group) for group in (names[:10], names[-10:]))
    assert abs(first - last) < 4 * (2 * 40_000 * 0.25 * 0.75) ** 0.5
    assert first == pytest.approx(10_000, rel=0.05)


def test_three_quarters_go_to_the_best_rated() -> None:
    names = [f"m{i:02}" for i in range(40)]
    history = _history({name: 40.0 - i for i, name in enumerate(names)})
    for seed in range(20):
        pool = _draw(names, history, size=16, seed=seed)
        assert set(names[:12]) <= set(pool)  # all reliable
    lots = Counter(
        name for seed in range(400) for name in set(_draw(names, history, size=16, seed=seed)) - set(names[:12])
    )
    assert len(lots) == 28  # everybody else has a chance


def test_newcomers_have_three_lots_to_one() -> None:
    known, fresh = [f"k{i:02}" for i in range(20)], [f"n{i:02}" for i in range(20)]
    history = _history(dict.fromkeys(known, 1.0), tasks=1)
    drawn = Counter(name[0] for seed in range(3000) for name in _draw(known + fresh, history, size=1, seed=seed))
    assert 2.4 < drawn["n"] / drawn["k"] < 3.7


def test_silence_after_an_accepted_offer_costs_places_and_our_failures_do_not() -> None:
    names = [f"m{i:02}" for i in range(30)]
    good = _history(dict.fromkeys(names, 1.0), tasks=1)
    silent = [result("m00", 0.0, task=f"s{i}", block=2000 + i, fault=Blame.OUTSIDE) for i in range(20)]
    ours = [result("m01", 0.0, task=f"s{i}", block=2000 + i, fault=Blame.OPERATOR) for i in range(20)]
    drawn = Counter(n for seed in range(1500) for n in _draw(names, [*good, *silent, *ours], size=8, seed=seed))
    usual = sum(drawn[name] for name in names[2:]) / 28
    assert drawn["m00"] < 0.5 * usual
    assert drawn["m01"] == pytest.approx(usual, rel=0.2)


def test_a_copy_proves_nothing() -> None:
    names = [f"m{i:02}" for i in range(12)]
    history = _history(dict.fromkeys(names[1:], 1.0))
    copied = [result("m00", 0.0, task=f"t{i:03}", block=1000 + i, gain=1.0, copied=True) for i in range(5)]
    pools = [_draw(names, [*history, *copied], size=4, seed=seed) for seed in range(200)]
    assert all("m00" not in pool[:3] for pool in pools)


def test_a_copy_is_rated_above_a_model_that_is_worse_than_the_base_and_below_all_others() -> None:
    history = _history({"best": 1.0, "weak": 0.1, "worse": -0.5}, tasks=1)
    copied = result("copy", 0.0, task="t000", block=1000, gain=1.0, copied=True)
    for seed in range(5):
        assert _draw(["worse", "copy", "weak", "best"], [*history, copied], size=6, seed=seed) == [
            "best",
            "weak",
            "copy",
            "worse",
        ]


def test_who_has_never_delivered_is_drawn_a_thousandth_as_often() -> None:
    """400 silences leave a reliability of 5e-8, and a thousandth of a lot: 9 in 10,000 places beside a miner with one lot."""
    silent = [result("silent", 0.0, task=f"s{i:03}", block=2000 + i, fault=Blame.MINER) for i in range(400)]
    good = _history({"good": 1.0}, tasks=1)
    drawn = sum(_draw(["silent", "good"], [*good, *silent], size=1, seed=seed) == ["silent"] for seed in range(10_000))
    assert 2 <= drawn <= 60


def test_ratings_forget() -> None:
    """Bad once and good ever since is rated above good once and bad ever since."""
    past = [*_history({"up": 0.1, "down": 1.0}, tasks=1), *_history({"up": 1.0, "down": 0.1}, tasks=8, first=1)]
    assert all(_draw(["up", "down"], past, size=2, seed=seed)[0] == "up" for seed in range(20))


def test_a_task_that_nobody_gained_on_rates_nobody() -> None:
    names = [f"k{i:02}" for i in range(20)]
    history = _history(dict.fromkeys(names[:10], -0.5), tasks=1)
    drawn = Counter(name for seed in range(2000) for name in _draw(names, history, size=1, seed=seed))
    first, last = (sum(drawn[name] for name in group) for group in (names[:10], names[10:]))
    assert abs(first - last) < 4 * 2000**0.5  # the ones as the others are newcomers
