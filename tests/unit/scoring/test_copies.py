"""Which submissions are one model, by rows and by fingerprints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from gradients.domain.evaluation import Fingerprint
from gradients.domain.task import Hotkey
from gradients.scoring.contest import Entry, Winner
from gradients.scoring.copies import CopyLimits, find_copies, row_ratios
from tests.unit.scoring.fields import base_rows, contest, entry, field

SEED = 11
LIMITS = CopyLimits()
EAST, NORTH = np.eye(8)[0], np.eye(8)[1]


def _print(*, update: int, outputs: int = 0, noise: float = 0.0, size: int = 64) -> Fingerprint:
    rng = np.random.default_rng(update)
    drawn, other = (
        rng.standard_normal(size) + noise * np.random.default_rng(99).standard_normal(size),
        np.random.default_rng(outputs),
    )
    return Fingerprint(tuple(map(float, drawn)), tuple(map(float, other.standard_normal(16))) if outputs else ())


def _with(each: Entry, fingerprint: Fingerprint) -> Entry:
    return replace(each, fingerprint=fingerprint)


def _sources(entries: Sequence[Entry], *, earlier: Sequence[Winner] = ()) -> dict[str, str]:
    return {str(h): str(c.source) for h, c in find_copies(contest(entries, SEED, earlier=earlier), LIMITS).items()}


def test_independent_models_are_no_copies() -> None:
    assert _sources(field(SEED, 12)) == {}


def test_a_crowd_of_copies_cannot_hide_itself() -> None:
    """40 hotkeys with one model, each with noise of its own, beside two honest ones."""
    honest, rng = field(SEED, 2), np.random.default_rng(3)
    model = np.array(field(SEED + 1, 1)[0].rows) - base_rows(SEED + 1) + base_rows(SEED)
    crowd = [entry(f"s{i:02}", model + 1e-4 * rng.standard_normal(len(model)), block=10 + i) for i in range(40)]
    assert _sources([*honest, *crowd]) == {f"s{i:02}": "s00" for i in range(1, 40)}


def test_links_make_groups() -> None:
    """a ~ b and b ~ c: one model, though a and c are further apart than two copies may be."""
    base, rng = base_rows(SEED), np.random.default_rng(1)
    step = 0.08 * 0.028 * rng.standard_normal(len(base))
    model = base * 0.85 + 0.08 * rng.standard_normal(len(base))
    chain = [entry(name, model + i * step, block=10 - i) for i, name in enumerate("abc")]
    ratios = row_ratios(np.array([e.rows for e in chain]), base)
    assert ratios[0, 1] < LIMITS.row_ratio < ratios[0, 2]
    assert _sources(chain) == {"a": "c", "b": "c"}


def test_a_rescaled_copy_is_told_by_its_update() -> None:
    one, two = field(SEED, 2)
    update = _print(update=1)
    scaled = Fingerprint(tuple(16.01 / 16 * x for x in update.update))
    copies = find_copies(contest([_with(one, update), _with(two, scaled)], SEED), LIMITS)
    [copy] = copies.values()
    assert "point the same way (cosine 1.0000)" in copy.evidence
    assert _sources([_with(one, update), _with(two, _print(update=2))]) == {}


def test_rows_that_agree_prove_nothing_where_outputs_differ() -> None:
    """A saturated metric: both models get every row right."""
    one = field(SEED, 1)[0]
    two = replace(one, hotkey=Hotkey("other"), committed_at_block=one.committed_at_block + 1)
    differ = [_with(one, _print(update=1, outputs=1)), _with(two, _print(update=2, outputs=2))]
    agree = [_with(one, _print(update=1, outputs=1)), _with(two, _print(update=2, outputs=1))]
    assert _sources(differ) == {}
    assert _sources(agree) == {"other": one.hotkey}
    assert _sources([one, two]) == {"other": one.hotkey}  # and where there are no outputs the rows decide


def test_an_earlier_tasks_winner_cannot_be_handed_in_by_another() -> None:
    one, two = field(SEED, 2)
    old = Winner(Hotkey("champion"), "instruct-1", _print(update=1))
    entries = [_with(one, _print(update=1, noise=0.05)), _with(two, _print(update=2))]
    assert _sources(entries, earlier=[old]) == {one.hotkey: "champion"}
    own = replace(old, hotkey=one.hotkey)
    assert _sources(entries, earlier=[own]) == {}
    assert _sources(entries, earlier=[own, old]) == {one.hotkey: "champion"}


def test_whoever_copies_a_copy_of_an_earlier_winner_is_its_copy() -> None:
    one = field(SEED, 1)[0]
    two = replace(one, hotkey=Hotkey("second"), committed_at_block=one.committed_at_block + 1)
    old = Winner(Hotkey("champion"), "instruct-1", _print(update=1))
    assert _sources([_with(one, _print(update=1)), two], earlier=[old]) == {
        one.hotkey: "champion",
        "second": "champion",
    }


def test_models_that_did_not_move_are_not_told_by_rows() -> None:
    base = base_rows(SEED)
    assert _sources([entry("a", base), entry("b", base)]) == {}
    assert np.isinf(row_ratios(np.stack([base, base]), base)).all()


@pytest.mark.parametrize(("part", "source"), [(0.55, "m0"), (0.65, "m0"), (0.35, "m1")])
def test_an_average_of_two_earlier_models_is_the_copy_of_its_larger_part(part: float, source: str) -> None:
    """Of directions that have something in common, as updates of one task have."""
    one, two, mixed, own = _ordered(field(SEED, 4))
    common, first, second, third = (np.array(_print(update=seed).update) for seed in (1, 2, 3, 4))
    sketches = {"m0": common + first, "m1": common + second, "own": common + third}
    average = part * sketches["m0"] / np.linalg.norm(sketches["m0"]) + (1 - part) * sketches["m1"] / np.linalg.norm(
        sketches["m1"]
    )
    entries = [
        _with(one, _of(sketches["m0"])),
        _with(two, _of(sketches["m1"])),
        _with(mixed, _of(average)),
        _with(own, _of(sketches["own"])),
    ]
    found = find_copies(contest(entries, SEED), LIMITS)
    assert {str(hotkey): str(copy.source) for hotkey, copy in found.items()} == {"m2": source}
    assert "a mixture of" in found[Hotkey("m2")].evidence


def test_of_an_even_average_the_earlier_of_the_two_is_the_source() -> None:
    one, two, mixed = _ordered(field(SEED, 3))
    entries = [_with(one, _of(EAST)), _with(two, _of(NORTH)), _with(mixed, _of(EAST + NORTH))]
    assert _sources(entries) == {"m2": "m0"}
    assert _sources([_with(mixed, _of(EAST + NORTH)), _with(one, _of(NORTH)), _with(two, _of(EAST))]) == {"m2": "m0"}


def test_what_points_away_from_an_earlier_model_is_not_an_average_of_it() -> None:
    one, two, apart = _ordered(field(SEED, 3))
    assert _sources([_with(one, _of(EAST)), _with(two, _of(NORTH)), _with(apart, _of(EAST - NORTH))]) == {}


def test_sketches_of_several_lengths_or_of_nothing_are_not_averages() -> None:
    one, two, mixed = _ordered(field(SEED, 3))
    short = Fingerprint((1.0, 0.0))
    assert _sources([_with(one, short), _with(two, _of(NORTH)), _with(mixed, _of(EAST + NORTH))]) == {}
    assert _sources([one, two, mixed]) == {}
    nothing = Fingerprint((0.0,) * len(EAST))
    assert _sources([_with(one, nothing), _with(two, _of(NORTH)), _with(mixed, _of(EAST + NORTH))]) == {}


def test_outputs_acquit_only_below_their_limit() -> None:
    """Two with the same rows, and outputs at a right angle: at a limit of 0 they are not below it."""
    one = field(SEED, 1)[0]
    two = replace(one, hotkey=Hotkey("other"), committed_at_block=one.committed_at_block + 1)
    entries = [_with(one, Fingerprint((), (1.0, 0.0))), _with(two, Fingerprint((), (0.0, 1.0)))]
    assert set(find_copies(contest(entries, SEED), CopyLimits(output_cosine=0.0))) == {"other"}
    assert find_copies(contest(entries, SEED), CopyLimits(output_cosine=0.1)) == {}


def test_what_came_before_an_average_of_it_is_not_its_copy() -> None:
    mixed, one, two = _ordered(field(SEED, 3))
    first, second = (np.array(_print(update=seed).update) for seed in (2, 3))
    entries = [_with(mixed, _of(first + second)), _with(one, _of(first)), _with(two, _of(second))]
    assert _sources(entries) == {}


def _of(sketch: np.ndarray) -> Fingerprint:
    return Fingerprint(tuple(map(float, sketch)))


def _ordered(entries: Sequence[Entry]) -> list[Entry]:
    """Committed one after the other."""
    return [replace(each, committed_at_block=block) for block, each in enumerate(entries)]
