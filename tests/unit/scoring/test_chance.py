"""Version 2, one task: chances of being best, and everything that must not move them."""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradients.domain.evaluation import Fingerprint, Placing
from gradients.domain.task import Hotkey
from gradients.errors import Blame
from gradients.scoring.chance import Chance, resampled_means, standard_normal
from gradients.scoring.contest import Contest, Entry
from gradients.scoring.rules import CHANCE
from tests.unit.scoring.fields import base_rows, contest, entry, failure, field

SEEDS = st.integers(0, 10**6)
SIZES = st.integers(1, 12)
BARELY = 0.02  # what 1,000 resamples tell at most


def _placed(entries: list[Entry], seed: int) -> dict[str, Placing]:
    return {placing.hotkey: placing for placing in CHANCE.place(contest(entries, seed))}


def _chances(entries: list[Entry], seed: int) -> dict[str, float]:
    return {hotkey: placing.points for hotkey, placing in _placed(entries, seed).items() if placing.points}


def _best(entries: list[Entry]) -> Entry:
    return min(entries, key=lambda each: each.value)


@given(SEEDS, st.integers(0, 12))
def test_chances_sum_to_one_or_there_are_none(seed: int, size: int) -> None:
    chances = _chances(field(seed, size), seed)
    assert sum(chances.values()) == pytest.approx(1.0 if size else 0.0)
    assert all(0 < chance <= 1 for chance in chances.values())


@given(SEEDS, SIZES, st.integers(0, 99))
def test_the_order_of_entrants_changes_nothing(seed: int, size: int, shuffle: int) -> None:
    entries = field(seed, size)
    shuffled = random.Random(shuffle).sample(entries, size)
    assert CHANCE.place(contest(entries, seed)) == CHANCE.place(contest(shuffled, seed))


@given(SEEDS, st.integers(2, 10), st.integers(1, 6), st.sampled_from([1e-9, 1e-6, 1e-4, 1e-3, 5e-3]), st.booleans())
def test_copies_with_noise_gain_nothing_and_cost_the_source_nothing(
    seed: int, size: int, copies: int, noise: float, sketched: bool
) -> None:
    """By rows alone up to a thousandth; with fingerprints by any noise that leaves a model what it is."""
    sketched = sketched or noise > 1e-3
    entries, rng = field(seed, size), np.random.default_rng(seed)
    if sketched:
        entries = [replace(each, fingerprint=_print(rng.standard_normal(64))) for each in entries]
    best = _best(entries)
    alone = _chances(entries, seed)
    more = []
    for i in range(copies):
        rows = np.array(best.rows) - noise + noise * rng.standard_normal(len(best.rows))
        copy = entry(f"z{i}", rows, block=100 + i)
        if best.fingerprint:
            sketch = np.array(best.fingerprint.update)
            copy = replace(copy, fingerprint=_print(sketch + noise * rng.standard_normal(len(sketch))))
        more.append(copy)
    placed = _placed([*entries, *more], seed)
    assert all(placed[each.hotkey].points == 0 for each in more)
    assert all(placed[each.hotkey].copy_of == best.hotkey for each in more)
    assert placed[best.hotkey].points == alone.get(best.hotkey, 0.0)


def _print(sketch: np.ndarray) -> Fingerprint:
    return Fingerprint(tuple(map(float, sketch)))


@given(SEEDS, SIZES, st.sampled_from([0.0, 1e-9, 1e-4, 1e-3]))
def test_the_base_handed_in_again_is_never_paid(seed: int, size: int, noise: float) -> None:
    base, rng = base_rows(seed), np.random.default_rng(seed)
    again = entry("again", base - noise + noise * rng.standard_normal(len(base)), block=0)
    placed = _placed([*field(seed, size), again], seed)["again"]
    assert (placed.points, placed.rank) == (0.0, None)
    assert CHANCE.place(contest([again], seed))[0].rank is None


@given(SEEDS, st.integers(0, 8))
def test_worse_than_the_base_is_never_paid_and_never_the_best(seed: int, size: int) -> None:
    placed = _placed([*field(seed, size), entry("bad", base_rows(seed) * 1.1, block=0)], seed)["bad"]
    assert (placed.points, placed.rank) == (0.0, None)
    assert "not better than the base" in placed.reason


@given(SEEDS, SIZES, st.integers(1, 6))
def test_junk_moves_nobody(seed: int, size: int, junk: int) -> None:
    entries, rng, base = field(seed, size), np.random.default_rng([seed, 9]), base_rows(seed)
    worthless = [entry(f"j{i}", base * 1.3 + 0.1 * rng.standard_normal(len(base)), block=0) for i in range(junk)]
    assert _chances([*entries, *worthless], seed) == _chances(entries, seed)


@given(SEEDS, SIZES, st.sampled_from(list(Blame)))
def test_a_failure_moves_nobody_and_earns_nothing(seed: int, size: int, blame: Blame) -> None:
    entries = field(seed, size)
    alone, joined = _placed(entries, seed), _placed([*entries, failure("zzz", blame)], seed)
    failed = joined.pop("zzz")
    assert joined == alone
    assert (failed.points, failed.rank, failed.fault) == (0.0, None, blame)


@given(SEEDS, st.integers(1, 10), st.floats(0.001, 0.05))
def test_improving_never_hurts(seed: int, size: int, by: float) -> None:
    entries = field(seed, size)
    before = _chances(entries, seed).get("m0", 0.0)
    better = replace(entries[0], rows=tuple(value - by for value in entries[0].rows))
    assert _chances([better, *entries[1:]], seed).get("m0", 0.0) >= before - BARELY


@given(SEEDS, st.integers(2, 10))
def test_the_clearly_better_never_gets_clearly_less(seed: int, size: int) -> None:
    entries = field(seed, size)
    placed = _placed(entries, seed)
    for one in entries:
        for other in entries:
            if one.value < other.value - 0.02:
                assert placed[one.hotkey].points >= placed[other.hotkey].points - BARELY


@given(SEEDS, SIZES)
def test_a_metric_that_grows_is_judged_like_one_that_falls(seed: int, size: int) -> None:
    entries = field(seed, size)
    turned = [replace(each, rows=tuple(-value for value in each.rows)) for each in entries]
    fallen, grown = CHANCE.place(contest(entries, seed)), CHANCE.place(contest(turned, seed, better="higher"))
    assert fallen == grown


@given(SEEDS, st.sampled_from([float("nan"), float("inf"), float("-inf")]), st.booleans())
def test_what_is_not_finite_is_refused(seed: int, odd: float, at_the_base: bool) -> None:
    base = tuple(map(float, base_rows(seed)))
    rows = (odd, *base[1:])
    with pytest.raises(ValueError, match="not finite"):
        Contest((), rows, "lower", 1, 1.0) if at_the_base else Entry(Hotkey("cheat"), rows)


@given(SEEDS, st.integers(2, 10))
def test_ranks_follow_the_means_of_those_that_are_fine_tunes(seed: int, size: int) -> None:
    entries = field(seed, size)
    values = {each.hotkey: each.value for each in entries}
    ranked = [placing.hotkey for placing in CHANCE.place(contest(entries, seed)) if placing.rank]
    assert ranked == sorted(ranked, key=lambda hotkey: values[hotkey])


def test_equal_models_share_and_a_clear_winner_takes_all() -> None:
    seed, base, rng = 5, base_rows(5), np.random.default_rng(5)
    equal = [entry(f"m{i}", base * 0.85 + 0.08 * rng.standard_normal(len(base))) for i in range(2)]
    shift = equal[0].value - equal[1].value
    equal[1] = replace(equal[1], rows=tuple(value + shift for value in equal[1].rows))
    assert _chances(equal, seed) == pytest.approx({"m0": 0.5, "m1": 0.5}, abs=0.05)
    clear = [equal[0], replace(equal[1], rows=tuple(value + 0.2 for value in equal[1].rows))]
    assert _chances(clear, seed) == {"m0": 1.0}


def test_a_gain_within_noise_is_not_a_fine_tune() -> None:
    """0.6 % better by mean, with a spread of 0.1 over 120 rows: z = 1.3."""
    base, rng = base_rows(1), np.random.default_rng(1)
    noise = rng.standard_normal(len(base))
    noise = 0.1 * (noise - noise.mean()) / noise.std(ddof=1)
    lucky = entry("lucky", base - 0.006 * base.mean() + noise)
    assert _placed([lucky], 1)["lucky"].rank is None
    certain = entry("certain", base - 0.006 * base.mean() + noise / 10)
    assert _placed([certain], 1)["certain"].points == 1.0
    tiny = entry("tiny", base - 0.004 * base.mean() + noise / 100)  # beyond noise, and below half a percent
    assert _placed([tiny], 1)["tiny"].rank is None


def test_of_a_model_handed_in_twice_the_first_in_the_chain_is_paid() -> None:
    """By block, then by the extrinsic's index, whatever the addresses."""
    rows = field(3, 1)[0].rows
    same_block = [Entry(Hotkey("a"), rows, 7, 4), Entry(Hotkey("b"), rows, 7, 3), Entry(Hotkey("c"), rows, 8, 0)]
    assert _chances(same_block, 3) == {"b": 1.0}
    placed = _placed(same_block, 3)
    assert {hotkey: placed[hotkey].copy_of for hotkey in "abc"} == {"a": "b", "b": None, "c": "b"}
    assert "committed first" in placed["a"].reason


def test_one_row_has_no_noise_to_be_told_from_and_two_have() -> None:
    """A gain of 10 % on a single row is a fine-tune; gains of 0 and 10 % of two rows have a standard error of half their spread."""
    single = Contest((Entry(Hotkey("a"), (0.9,)),), (1.0,), "lower", 10**9, 1.0)
    two = Contest((Entry(Hotkey("a"), (1.0, 0.9)),), (1.0, 1.0), "lower", 10**9, 1.0)
    assert [CHANCE.place(each)[0].rank for each in (single, two)] == [1, None]


def test_a_gain_that_is_just_what_is_demanded_is_not_enough() -> None:
    """With half of the base's value demanded: 0.5 is not a fine-tune, a hair more is."""
    strict = Chance(base_share=0.5)
    for value, rank in ((0.5, None), (0.5 - 1e-9, 1)):
        placed = strict.place(Contest((Entry(Hotkey("a"), (value, value)),), (1.0, 1.0), "lower", 10**9, 1.0))
        assert placed[0].rank == rank


def test_luck_spreads_what_rows_alone_would_decide() -> None:
    seed, base, rng = 2, base_rows(2), np.random.default_rng(2)
    noise = 0.01 * rng.standard_normal((2, len(base)))
    noise -= noise.mean(axis=1, keepdims=True)
    close = [entry("a", base * 0.8 + noise[0]), entry("b", base * 0.8 + noise[1] + 0.005)]
    sharp, lucky = Chance(luck=0.0), Chance(luck=0.05)
    won = [next(p.points for p in rules.place(contest(close, seed)) if p.hotkey == "a") for rules in (sharp, lucky)]
    assert won[0] > 0.99
    assert won[1] == pytest.approx(0.56, abs=0.002)  # of this seed: audits replay it


def test_who_is_far_behind_has_no_chance_whatever_the_noise() -> None:
    """Half the best's gain, with rows so noisy that resamples alone would let it win now and then."""
    base, rng = base_rows(4), np.random.default_rng(4)
    noise = rng.standard_normal((2, len(base)))
    noise -= noise.mean(axis=1, keepdims=True)
    entries = [entry("best", base - 0.5 + noise[0]), entry("far", base - 0.25 + noise[1])]
    won = [
        {str(p.hotkey): p.points for p in rules.place(contest(entries, 4))}["far"]
        for rules in (CHANCE, Chance(near=0.9))
    ]
    assert won[0] == 0.0 < won[1]


def test_a_task_counts_by_size_and_hours_within_bounds() -> None:
    assert CHANCE.factor(parameters=1_000_000_000, hours=1.0) == 2.0
    assert CHANCE.factor(parameters=4_000_000_000, hours=4.0) == 8.0
    assert CHANCE.factor(parameters=1_500_000, hours=48.0) == 1.0  # the time of a tiny base is cheap
    assert CHANCE.factor(parameters=1_000_000, hours=1000.0) == 2.0  # 2·sqrt(0.001·1000)
    assert CHANCE.factor(parameters=70_000_000_000, hours=10.0) == 20.0
    placed = CHANCE.place(contest(field(1, 1), 1, hours=4.0))[0]
    assert (placed.points, placed.adjusted_points) == (1.0, 4.0)


@given(SEEDS, st.integers(2, 40))
def test_resamples_have_the_mean_and_the_spread_of_means(seed: int, rows: int) -> None:
    values = np.random.default_rng(seed).standard_normal((1, rows))
    means = resampled_means(values, count=2000, seed=seed)
    assert means.shape == (1, 2000)
    expected = values.std() / rows**0.5
    assert means.mean() == pytest.approx(values.mean(), abs=6 * expected / 2000**0.5 + 1e-12)
    assert means.std() == pytest.approx(expected, rel=0.2)


def test_the_resamples_of_a_seed_stay_what_they_are() -> None:
    """Audits replay them on other machines, with other versions of numpy."""
    assert resampled_means(np.array([[0.0, 1.0, 2.0, 4.0]]), count=4, seed=7).tolist() == [[2.0, 1.25, 1.0, 1.5]]


def test_the_luck_of_a_purpose_stays_what_it_is() -> None:
    """By hand from the raw stream: sqrt(-2 ln u)·cos(2 pi v), with u and v the middles of 2^32 equal parts."""
    start = int.from_bytes(hashlib.sha256(b"7:luck:m0").digest()[:16], "big")
    u, v = ((int(each >> 32) + 0.5) / 4294967296 for each in np.random.PCG64(start).random_raw(2).tolist())
    expected = math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v)
    assert standard_normal(1, "7:luck:m0").tolist() == [pytest.approx(expected, rel=1e-12)]
    drawn = standard_normal(10_000, "any")
    assert (drawn.mean(), drawn.std()) == (pytest.approx(0.0, abs=0.05), pytest.approx(1.0, rel=0.05))


def test_contests_that_make_no_sense_are_refused() -> None:
    one, two = field(1, 2)
    with pytest.raises(ValueError, match="rows"):
        contest([replace(one, rows=(*one.rows, 1.0))], 1)
    with pytest.raises(ValueError, match="one entry"):
        contest([one, replace(two, hotkey=one.hotkey)], 1)
    with pytest.raises(ValueError, match="base's values"):
        Contest((), (), "lower", 1, 1.0)
    with pytest.raises(ValueError, match="either values or a failure"):
        Entry(Hotkey("x"), ())
    assert Entry(Hotkey("x"), (1.0,)).order == (0, 0, "x")
