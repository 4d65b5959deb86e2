"""The split: disjoint, secret, the same again for the same salt, within its sizes, and nothing nearly the same on both sides."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradients.datasets.near_duplicates import NEAR, OVERLAP_WORDS, overlapping, shingles
from gradients.datasets.normal_texts import normalised
from gradients.datasets.rows import Numbered, Row, SplitSizes
from gradients.datasets.splits import Split, split
from gradients.errors import DatasetInvalid

WORDS = [f"word{number}" for number in range(3000)]
SALT = b"s" * 32
SIZES = SplitSizes()


def _text(row: Row) -> str:
    return str(row["text"])


def _sentences(count: int, *, words: int = 15, seed: int = 0) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=words)) for _ in range(count)]


def _rows(texts: list[str]) -> list[Numbered]:
    return [Numbered(number, {"text": text}) for number, text in enumerate(texts, start=1)]


def _split(texts: list[str], salt: bytes = SALT) -> Split:
    return split(_rows(texts), text=_text, salt=salt)


def _texts(side: Sequence[Numbered]) -> set[str]:
    return {_text(numbered.row) for numbered in side}


def _with_edits(texts: list[str], *, edits: int, generator: random.Random) -> list[str]:
    """The texts, and copies of some of them with one changed word or other punctuation, anywhere among them."""
    copies = []
    for text in generator.choices(texts, k=edits):
        words = text.split()
        words[generator.randrange(len(words))] = "changed"
        copies.append(generator.choice([" ".join(words), text.upper() + "!", text]))
    mixed = texts + copies
    generator.shuffle(mixed)
    return mixed


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(SIZES.fewest_rows, 300),
    words=st.integers(16, 40),
    edits=st.integers(0, 60),
    salt=st.binary(min_size=32, max_size=32),
    seed=st.integers(0, 2**32),
)
def test_the_sides_are_disjoint_and_share_nothing_nearly_the_same(
    count: int, words: int, edits: int, salt: bytes, seed: int
) -> None:
    texts = _with_edits(_sentences(count, words=words, seed=seed), edits=edits, generator=random.Random(seed))
    sides = _split(texts, salt)
    held_out = [normalised(text) for text in _texts(sides.held_out)]
    train = [normalised(text) for text in _texts(sides.train)]
    assert not {n.number for n in sides.train} & {n.number for n in sides.held_out}
    assert len(sides.held_out) == len(set(held_out))
    for held in map(shingles, held_out):
        for other in map(shingles, train):
            assert len(held & other) < NEAR * len(held | other)
    assert not overlapping(train, held_out)


@settings(max_examples=15, deadline=None)
@given(count=st.integers(SIZES.fewest_rows, 300), edits=st.integers(0, 30), seed=st.integers(0, 2**32))
def test_every_row_is_on_one_side_or_counted(count: int, edits: int, seed: int) -> None:
    texts = _with_edits(_sentences(count, words=25, seed=seed), edits=edits, generator=random.Random(seed))
    sides = _split(texts)
    assert len(sides.train) + len(sides.held_out) + sum(sides.removed.values()) == len(texts)
    assert sides.removed["repeated"] + sides.removed["nearly repeated"] == edits
    assert SIZES.fewest_held_out <= len(sides.held_out) <= SIZES.most_held_out
    assert abs(len(sides.held_out) - max(SIZES.fewest_held_out, count / 10)) <= 0.5
    assert [n.number for n in sides.train] == sorted(n.number for n in sides.train)


def test_a_tenth_is_held_out_and_never_more_than_400() -> None:
    assert len(_split(_sentences(64)).held_out) == 16
    assert len(_split(_sentences(500)).held_out) == 50
    assert len(_split(_sentences(4500)).held_out) == 400


@settings(max_examples=10, deadline=None)
@given(one=st.binary(min_size=32, max_size=32), other=st.binary(min_size=32, max_size=32))
def test_another_salt_holds_out_other_rows_and_the_same_salt_the_same(one: bytes, other: bytes) -> None:
    texts = _sentences(100)
    assert _split(texts, one) == _split(texts, one)
    assert (_split(texts, one).held_out == _split(texts, other).held_out) == (one == other)


def test_a_salt_favours_no_row() -> None:
    """Over 100 salts each of 64 rows is held out 25 times, give or take 5 standard deviations of sqrt(100 · 1/4 · 3/4) = 4.3."""
    texts = _sentences(64, words=5)
    drawn = [n.number for salt in range(100) for n in _split(texts, salt.to_bytes(32, "big")).held_out]
    assert all(abs(drawn.count(number) - 25) < 5 * 4.3 for number in range(1, 65))


@given(st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_which_rows_are_held_out_does_not_depend_on_their_order(generator: random.Random) -> None:
    texts = _with_edits(_sentences(100), edits=20, generator=random.Random(5))
    shuffled = generator.sample(texts, len(texts))
    assert {normalised(t) for t in _texts(_split(texts).held_out)} == {
        normalised(t) for t in _texts(_split(shuffled).held_out)
    }


def test_three_rows_are_too_few() -> None:
    with pytest.raises(DatasetInvalid, match="There are 3 rows, and at least 64 are needed") as caught:
        _split(_sentences(3))
    assert (caught.value.code, caught.value.fix) == ("too_few_rows", "Give a larger data set")


def test_repeated_rows_do_not_make_a_data_set_large_enough() -> None:
    with pytest.raises(DatasetInvalid, match="Of 630 rows 567 were left out as repeated; 63 are left"):
        _split(_sentences(63) * 10)


def test_one_template_for_all_rows_leaves_rows_to_train_on() -> None:
    """A prompt such as "Below is an instruction …" is longer than the 13 words that make an overlap."""
    [template] = _sentences(1, words=2 * OVERLAP_WORDS, seed=7)
    sides = _split([f"{template} {text}" for text in _sentences(200, words=6)])
    assert (len(sides.train), len(sides.held_out), sum(sides.removed.values())) == (180, 20, 0)


def test_too_few_rows_to_train_on_are_refused() -> None:
    """Eight rows share each of eight passages but little else: hardly a passage has none of its rows held out."""
    passages = _sentences(8, words=OVERLAP_WORDS, seed=1)
    texts = [f"{passages[i % 8]} {own}" for i, own in enumerate(_sentences(64, words=30, seed=2))]
    with pytest.raises(
        DatasetInvalid, match=f"share long passages with the {SIZES.fewest_held_out} held-out"
    ) as caught:
        _split(texts)
    assert caught.value.code == "too_few_rows"


def _in_groups(counts: list[int], salt: bytes = SALT) -> Split:
    """Texts of a few words, so many of each group."""
    texts = iter(_sentences(sum(counts), words=6))
    rows: list[Row] = [
        {"text": next(texts), "group": f"Group {n}"} for n, count in enumerate(counts) for _ in range(count)
    ]
    numbered = [Numbered(number, row) for number, row in enumerate(rows, start=1)]
    return split(numbered, text=_text, group=lambda row: str(row["group"]), salt=salt)


@settings(max_examples=25, deadline=None)
@given(counts=st.lists(st.integers(1, 15), min_size=64, max_size=80), salt=st.binary(min_size=32, max_size=32))
def test_groups_stand_on_one_side_and_the_held_out_side_keeps_its_size(counts: list[int], salt: bytes) -> None:
    sides = _in_groups(counts, salt)
    held, trained = ({str(row.row["group"]) for row in side} for side in (sides.held_out, sides.train))
    assert not held & trained
    assert len(sides.held_out) == SIZES.held_out(sum(counts))
    assert len(sides.train) + len(sides.held_out) + sum(sides.removed.values()) == sum(counts)
    assert sides.removed["belong with held-out rows"] < max(counts)


def test_a_group_of_more_rows_than_are_held_out_is_drawn_row_by_row() -> None:
    """One prompt for all rows says nothing about which of them belong together."""
    sides = _in_groups([200])
    assert (len(sides.held_out), len(sides.train)) == (20, 180)


def test_rows_of_one_group_may_be_nearly_the_same_but_not_equal() -> None:
    """A long prompt makes all its answers near-duplicates; punctuation makes no other answer."""
    [prompt] = _sentences(1, words=30, seed=8)
    own = [f"{prompt} yes", f"{prompt} no", f"{prompt} No!"]
    texts = [*_sentences(100), *own]
    sides = split(_rows(texts), text=_text, group=lambda row: _text(row)[:60], salt=SALT)
    assert sum(prompt in text for text in _texts(sides.train) | _texts(sides.held_out)) == 2
    assert sides.removed["nearly repeated"] == 1


@pytest.mark.parametrize("templates", [2, 3])
def test_a_few_templates_for_all_rows_leave_every_row(templates: int) -> None:
    instructions = _sentences(templates, words=60, seed=7)
    sides = _split([f"{instructions[i % templates]} {text}" for i, text in enumerate(_sentences(300, words=5))])
    assert (len(sides.held_out), sides.removed["nearly repeated"]) == (30, 0)
    assert len(sides.train) > 260  # a few go on with the same word behind the same instruction, which is an overlap


def test_sums_that_differ_in_their_operator_are_different_rows() -> None:
    sums = [f"{a} {op} {b}" for a in range(10) for op in "+-*/" for b in range(10)]
    sides = _split(sums)
    assert (len(sides.train), len(sides.held_out)) == (360, 40)
