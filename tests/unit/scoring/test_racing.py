"""Racing: whoever stops early changes no prize, and whatever can still decide about one goes on."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradients.domain.evaluation import Fingerprint
from gradients.domain.task import Hotkey
from gradients.errors import Blame
from gradients.scoring.contest import Contest, Entry, Winner
from gradients.scoring.racing import RaceLimits, looks
from gradients.scoring.row_order import places_of, row_order
from gradients.scoring.rules import CHANCE, PAPER
from gradients.scoring.stopping import student_quantile, student_tail
from tests.unit.scoring.fields import entry, failure

SEEDS = st.integers(0, 10**6)
SIZES = st.integers(2, 10)
ROWS = 400


def _field(seed: int, size: int, *, step: float = 0.05) -> Contest:
    """Fine-tunes whose gains lie `step` of the best apart, with a spread of 4 % of the base on each row."""
    rng = np.random.default_rng([seed, 7])
    base = 2.0 * rng.gamma(25, 1 / 25, ROWS)
    rows = [base * (1 - 0.2 * (1 - step * i)) + 0.08 * rng.standard_normal(ROWS) for i in range(size)]
    entries = tuple(entry(f"m{i}", each, block=int(rng.integers(0, 99)), extrinsic=i) for i, each in enumerate(rows))
    return Contest(entries, tuple(base.tolist()), "lower", 10**9, 1.0, seed)


def _with(contest: Contest, *more: Entry) -> Contest:
    return replace(contest, entries=(*contest.entries, *more))


def _raced(contest: Contest) -> Contest:
    return contest.stopped_after(CHANCE.rows_needed(contest))


def _prizes(contest: Contest) -> dict[str, float]:
    return {placing.hotkey: placing.points for placing in CHANCE.place(contest)}


@given(st.integers(1, 5000))
def test_looks_grow_and_end_with_all_rows(rows: int) -> None:
    found = looks(rows, RaceLimits())
    assert found[-1] == rows
    assert list(found) == sorted(set(found))
    assert (len(found) > 1) == (rows >= 96)


@given(SEEDS, st.integers(1, 500))
def test_every_row_is_raced_once_and_the_seed_says_when(seed: int, rows: int) -> None:
    order = row_order(seed, rows).tolist()
    assert sorted(order) == list(range(rows))
    assert order == row_order(seed, rows).tolist()
    if rows >= 50:
        assert order != row_order(seed + 1, rows).tolist()
    for known in {1, rows // 2, rows} - {0}:
        assert places_of(seed, rows, known=known).tolist() == sorted(order[:known])


def test_the_first_rows_of_a_race_are_spread_over_the_file() -> None:
    means = [places_of(seed, ROWS, known=32).mean() for seed in range(200)]
    assert np.mean(means) == pytest.approx((ROWS - 1) / 2, abs=6)  # 200 means of 32 places have an error of 1.4


def test_an_order_once_drawn_stays() -> None:
    assert row_order(7, 8).tolist() == [6, 7, 2, 5, 4, 0, 1, 3]


@given(SEEDS, SIZES)
def test_nobody_with_a_fifth_of_the_prize_stops(seed: int, size: int) -> None:
    contest = _field(seed, size)
    needed, prizes = CHANCE.rows_needed(contest), _prizes(contest)
    assert all(needed[Hotkey(hotkey)] == ROWS for hotkey, prize in prizes.items() if prize > 0.2)


@given(SEEDS, SIZES)
def test_prizes_stay_and_a_wide_field_saves_rows(seed: int, size: int) -> None:
    contest = _field(seed, size, step=0.2)
    raced = _raced(contest)
    assert _prizes(raced) == _prizes(contest)
    if size >= 4:
        assert sum(len(each.rows) for each in raced.entries) < 0.8 * ROWS * size


@given(SEEDS, SIZES, st.integers(0, 99))
def test_neither_the_order_of_entrants_nor_rows_after_a_stop_change_what_is_needed(
    seed: int, size: int, shuffle: int
) -> None:
    contest = _field(seed, size, step=0.1)
    needed = CHANCE.rows_needed(contest)
    shuffled = replace(contest, entries=tuple(random.Random(shuffle).sample(contest.entries, size)))
    assert CHANCE.rows_needed(shuffled) == needed
    assert CHANCE.rows_needed(_raced(contest)) == needed


@given(SEEDS, SIZES)
def test_block_by_block_a_race_ends_where_all_rows_say(seed: int, size: int) -> None:
    contest = _field(seed, size, step=0.1)
    have = dict.fromkeys((each.hotkey for each in contest.entries), 48)
    while (needed := CHANCE.rows_needed(contest.stopped_after(have))) != have:
        assert all(needed[hotkey] >= rows for hotkey, rows in have.items())
        have = needed
    assert have == CHANCE.rows_needed(contest)


@given(SEEDS, st.sampled_from([0.0, 1e-4, 1e-3]), st.floats(-0.01, 0.01))
def test_copies_go_on_with_their_source(seed: int, noise: float, shift: float) -> None:
    contest = _field(seed, 6, step=0.1)
    rng, best = np.random.default_rng(seed), contest.entries[0]
    copy = entry("z", np.array(best.rows) + shift + noise * rng.standard_normal(ROWS), block=100)
    contest = _with(contest, copy)
    needed = CHANCE.rows_needed(contest)
    assert needed[best.hotkey] == needed[copy.hotkey] == ROWS
    placed = {placing.hotkey: placing for placing in CHANCE.place(_raced(contest))}
    assert placed[copy.hotkey].copy_of == best.hotkey
    assert _prizes(_raced(contest)) == pytest.approx(_prizes(contest), abs=0.05)


def test_a_winner_that_repeats_an_earlier_task_stops_nobody() -> None:
    contest, sketch = _field(5, 3, step=0.01), np.random.default_rng(1).standard_normal(64)
    mark = Fingerprint(tuple(map(float, sketch)))
    thief = replace(entry("thief", 0.5 * np.array(contest.entries[0].rows)), fingerprint=mark)
    contest = replace(_with(contest, thief), earlier=(Winner(Hotkey("old"), "t0", mark),))
    assert _prizes(_raced(contest)) == _prizes(contest)
    assert _prizes(contest)["m0"] > 0


def test_whoever_hands_in_the_base_stops_first() -> None:
    contest = _field(3, 2, step=0.01)
    lazy = entry("lazy", np.array(contest.base))
    needed = CHANCE.rows_needed(_with(contest, lazy))
    assert needed[Hotkey("lazy")] == 48
    assert needed[Hotkey("m0")] == ROWS


def test_a_field_without_a_sure_fine_tune_is_measured_in_full() -> None:
    rng = np.random.default_rng(2)
    base = 2.0 * rng.gamma(25, 1 / 25, ROWS)
    entries = tuple(entry(f"m{i}", base * 0.99 + 0.3 * rng.standard_normal(ROWS)) for i in range(4))
    contest = Contest(entries, tuple(base.tolist()), "lower", 10**9, 1.0, 2)
    assert set(CHANCE.rows_needed(contest).values()) == {ROWS}


def test_a_short_file_is_measured_in_full() -> None:
    contest = _field(1, 4, step=0.3).after(60, _field(1, 4, step=0.3).entries)
    assert set(CHANCE.rows_needed(contest).values()) == {60}


def test_every_place_is_paid_by_version_1_so_nobody_stops() -> None:
    contest = _field(1, 4, step=0.3)
    assert set(PAPER.rows_needed(contest).values()) == {ROWS}
    with pytest.raises(ValueError, match="version 1"):
        PAPER.place(_raced(contest))


@given(SEEDS)
def test_higher_and_lower_are_raced_alike(seed: int) -> None:
    contest = _field(seed, 5, step=0.1)
    mirrored = replace(
        contest,
        entries=tuple(replace(each, rows=tuple(-value for value in each.rows)) for each in contest.entries),
        base=tuple(-value for value in contest.base),
        better="higher",
    )
    assert CHANCE.rows_needed(mirrored) == CHANCE.rows_needed(contest)


def test_who_stopped_is_placed_by_what_it_was_behind_on_the_same_rows() -> None:
    contest = _field(4, 3, step=0.3)
    raced = _raced(contest)
    last = raced.entries[2]
    placed = {placing.hotkey: placing for placing in CHANCE.place(raced)}
    best = placed[Hotkey("m0")].gain
    behind = contest.gains(contest.entries[0], known=len(last.rows)) - raced.gains(last)
    assert len(last.rows) < ROWS
    assert best is not None
    assert placed[Hotkey("m2")].gain == pytest.approx(best - behind.mean())
    assert placed[Hotkey("m2")].rank == 3
    assert f"first {len(last.rows)} of {ROWS} rows; stopped early" in placed[Hotkey("m2")].reason


def test_failures_need_no_rows() -> None:
    contest = _with(_field(4, 2), failure("broken", Blame.MINER))
    assert Hotkey("broken") not in CHANCE.rows_needed(contest)


@pytest.mark.parametrize(
    ("probability", "freedom", "quantile"),
    [(0.975, 31, 2.0395), (0.999, 31, 3.3749), (0.9999, 60, 3.9621), (0.95, 200, 1.6525)],
)
def test_students_distribution_is_as_in_tables(probability: float, freedom: int, quantile: float) -> None:
    assert student_quantile(probability, freedom) == pytest.approx(quantile, rel=1e-3)
    assert student_tail(np.array([quantile]), freedom)[0] == pytest.approx(1 - probability, rel=0.05)
