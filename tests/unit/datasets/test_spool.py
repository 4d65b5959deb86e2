"""Sequences on the disk are the sequences that they stand for."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from datasketch import MinHash
from hypothesis import given
from hypothesis import strategies as st

from gradients.datasets.digests import Digests
from gradients.datasets.rows import Numbered, numbered_rows
from gradients.datasets.shingles import Sets
from gradients.datasets.spool import Made, NotJson, Picked, Spool

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
sets_of_numbers = st.lists(st.frozensets(st.integers(0, 60) | st.integers(0, 2**32 - 1), max_size=30), max_size=20)


def arrays(sets: Sequence[frozenset[int]]) -> Sets:
    return Sets(np.array(sorted(one), np.uint32) for one in sets)


@given(st.lists(json_values, max_size=20))
def test_what_is_put_in_comes_out_in_order_one_by_one_and_all_together(values: list[object]) -> None:
    spool = Spool[object]()
    for value in values:
        spool.append(value)
    assert list(spool) == values
    assert [spool[position] for position in range(len(values))] == values
    assert spool[1:3] == values[1:3]
    assert spool == values


def test_half_characters_and_long_values_are_kept_and_two_readers_do_not_disturb_one_another() -> None:
    values = ["\ud83d", "x" * 3_000_000, "", "é" * 10]
    spool = Spool[str]()
    for value in values:
        spool.append(value)
    assert [one == other for one, other in zip(spool, spool, strict=True)] == [True] * 4
    assert list(spool) == values


def test_what_json_has_no_word_for_is_not_taken_for_text() -> None:
    spool = Spool[object]()
    spool.append({"day": datetime.date(2026, 11, 27)})
    assert spool[0] == {"day": NotJson("2026-11-27")}


def test_a_position_that_is_not_there_is_an_error() -> None:
    spool = numbered_rows()
    spool.append(Numbered(3, {"a": "b"}))
    assert spool[0] == spool[-1] == Numbered(3, {"a": "b"})
    for position in (1, -2):
        with pytest.raises(IndexError):
            spool[position]


def test_views_pick_and_make() -> None:
    assert list(Picked("abcde", [3, 0])) == ["d", "a"]
    made = Made([1, 2, 3], lambda value: value * 10)
    assert (list(made), made[1], len(made)) == ([10, 20, 30], 20, 3)


def test_digests_are_kept_in_their_order() -> None:
    kept = Digests([b"a" * 32, b"b" * 32])
    assert (list(kept), kept[1], kept[:1]) == ([b"a" * 32, b"b" * 32], b"b" * 32, [b"a" * 32])
    with pytest.raises(ValueError, match="32 bytes, not 3"):
        kept.append(b"abc")


@given(sets_of_numbers, st.frozensets(st.integers(0, 60)), st.integers(0, 3))
def test_sets_do_what_pythons_do(sets: list[frozenset[int]], taken: frozenset[int], rows: int) -> None:
    kept, without = arrays(sets), np.array(sorted(taken), np.uint32)
    assert [frozenset(one.tolist()) for one in kept] == sets
    assert [frozenset(kept[i].tolist()) for i in range(len(sets))] == sets
    assert kept.sizes().tolist() == [len(one) for one in sets]
    counted = {number: count for number, count in Counter(n for one in sets for n in one).items() if count > rows}
    numbers, holders = kept.in_more_than(rows)
    assert dict(zip(numbers.tolist(), holders.tolist(), strict=True)) == counted
    assert [set(one.tolist()) for one in kept.without(without, or_whole=False)] == [one - taken for one in sets]
    assert [set(one.tolist()) for one in kept.without(without, or_whole=True)] == [one - taken or one for one in sets]
    assert kept.shares_of(without).tolist() == [len(one - taken) for one in sets]
    assert set(kept.in_all().tolist()) == (frozenset.intersection(*sets) if sets else frozenset())


@given(sets_of_numbers)
def test_sketches_are_datasketchs(sets: list[frozenset[int]]) -> None:
    theirs = [sketch.hashvalues.tolist() for sketch in MinHash.generator(sets, num_perm=6, hashfunc=int)]
    assert arrays(sets).sketches(6).tolist() == theirs
