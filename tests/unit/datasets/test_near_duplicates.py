"""Texts that say the same thing twice are found however they were edited a little, and others are left alone."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradients.datasets.near_duplicates import (
    OVERLAP_WORDS,
    TEMPLATE_ROWS,
    near_any,
    near_duplicate_groups,
    overlapping,
    shingles,
)
from gradients.datasets.normal_texts import normalised

ASSETS = Path(__file__).parents[3] / "gradients" / "assets" / "data"
WORDS = [f"word{number}" for number in range(2000)]


def _texts(count: int, *, words: int, seed: int = 0) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=words)) for _ in range(count)]


def _changed(text: str, *, words: int, seed: int) -> str:
    """The text with some of its words replaced, left out or doubled."""
    generator, edited = random.Random(seed), text.split()
    for _ in range(words):
        place = generator.randrange(len(edited))
        edited[place : place + 1] = generator.choice([["other"], [], [edited[place], "more"]])
    return " ".join(edited)


def _recall(*, words: int, changed: int) -> float:
    """How many of 200 edited texts are found beside their originals."""
    texts = _texts(200, words=words)
    edited = [_changed(text, words=changed, seed=number) for number, text in enumerate(texts)]
    groups = near_duplicate_groups([normalised(text) for text in (*texts, *edited)])
    group_of = {position: number for number, group in enumerate(groups) for position in group}
    return statistics.fmean(group_of[i] == group_of[i + 200] for i in range(200))


@pytest.mark.parametrize(
    ("words", "changed", "at_least"), [(16, 1, 0.95), (20, 1, 0.99), (30, 2, 0.95), (60, 3, 0.99), (150, 8, 0.95)]
)
def test_a_text_with_a_few_changed_words_is_found(words: int, changed: int, at_least: float) -> None:
    """Measured: 1.00, 1.00, 1.00, 1.00, 1.00; one changed word in 12 is found in 5 of 10, in 14 always."""
    assert _recall(words=words, changed=changed) >= at_least


@pytest.mark.parametrize(
    "edit",
    [
        str.upper,
        lambda text: text.replace(" ", ",\n\t"),
        lambda text: f"“{text}!”",
        lambda text: "".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in text),  # full-width letters
    ],
)
def test_case_spaces_punctuation_and_letter_forms_do_not_matter(edit: Callable[[str], str]) -> None:
    text = "The quick brown fox jumps over 13 lazy dogs"
    assert normalised(edit(text)) == normalised(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("C++", "C"),
        ("C#", "C"),
        ("3 * 4", "3 / 4"),
        ("3-4", "3+4"),
        ("a < b", "a > b"),
        ("🙂", "🙃"),
        ("5 %", "5 $"),
        ("…", "?"),
    ],
)
def test_operators_and_symbols_tell_texts_apart(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)
    assert near_duplicate_groups([normalised(one), normalised(other)]) == [[0], [1]]


def test_hyphens_joiners_and_punctuation_are_no_words() -> None:
    assert normalised("A well-known “trick” (to me).") == "a well known trick to me"
    assert normalised("so\u00adft हिन्दी") == "soft हिन्दी"


def test_unrelated_texts_stay_apart() -> None:
    assert len(near_duplicate_groups(_texts(500, words=20))) == 500


@pytest.mark.parametrize("name", ["wordnet-definitions", "wordnet-rag"])
def test_rows_of_a_real_data_set_with_one_template_stay_apart(name: str) -> None:
    lines = (ASSETS / name / "rows.jsonl").read_text().splitlines()[:600]
    texts = [normalised(" ".join(map(str, json.loads(line).values()))) for line in lines]
    assert len(near_duplicate_groups(texts)) == len(texts)


def test_a_long_instruction_before_every_row_makes_no_duplicates() -> None:
    """Without the template rule all 100 rows were one group: 40 of 48 shingles are the instruction's."""
    instruction = " ".join(_texts(1, words=40, seed=9))
    texts = [f"{instruction} {text}" for text in _texts(100, words=8)]
    assert len(near_duplicate_groups(texts)) == 100


def test_duplicates_behind_a_long_instruction_are_found() -> None:
    instruction = " ".join(_texts(1, words=40, seed=9))
    texts = [f"{instruction} {text}" for text in _texts(100, words=20)]
    texts.append(texts[3] + " more")
    assert [group for group in near_duplicate_groups(texts) if len(group) > 1] == [[3, 100]]


@pytest.mark.parametrize("others", [0, 300, 3000])
@pytest.mark.parametrize(("words", "changed", "copies"), [(20, 1, 12), (20, 1, 50), (60, 3, 50), (150, 3, 200)])
def test_many_copies_with_changes_here_and_there_are_one(words: int, changed: int, copies: int, others: int) -> None:
    """What they share is more than ten rows', as a template's words are, but no part of it is all of theirs."""
    [original] = _texts(1, words=words, seed=3)
    edited = [_changed(original, words=changed, seed=number) for number in range(copies)]
    groups = near_duplicate_groups([*edited, original, *_texts(others, words=words, seed=4)])
    assert [len(group) for group in groups if len(group) > 1] == [copies + 1]


@pytest.mark.parametrize(("templates", "rows"), [(2, 300), (3, 300), (30, 600)])
@pytest.mark.parametrize("words", [3, 8, 40])
def test_rows_behind_one_of_several_instructions_stay_apart(templates: int, rows: int, words: int) -> None:
    instructions = _texts(templates, words=60, seed=9)
    texts = [f"{instructions[i % templates]} {own}. Answer:" for i, own in enumerate(_texts(rows, words=words))]
    copy = texts[5].replace("Answer", "Reply")
    groups = near_duplicate_groups([normalised(text) for text in (*texts, copy)])
    assert [group for group in groups if len(group) > 1] == [[5, rows]]


def test_templates_within_templates_are_not_followed_without_end() -> None:
    """Each text is the one before with another word. Without the limit each level would take one word from all that are left."""
    words = [f"w{number}" for number in range(300)]
    groups = near_duplicate_groups([" ".join(words[:count]) for count in range(100, 300)])
    assert sum(map(len, groups)) == 200
    assert len(groups) < 20


@pytest.mark.slow
def test_time_grows_with_the_rows_not_with_their_pairs() -> None:
    """20,000 rows of three templates take about 10 s of a processor; when each was compared with each, 2,000 took 5 s, so all would 500."""
    instructions = _texts(3, words=60, seed=9)
    started = time.process_time()
    near_duplicate_groups([f"{instructions[i % 3]} {own}" for i, own in enumerate(_texts(20_000, words=20))])
    assert time.process_time() - started < 100


def test_a_script_without_spaces_is_compared_by_characters() -> None:
    text = normalised("人工智能是计算机科学的一个分支。研究如何让机器像人一样思考和学习。")
    assert len(text.split()) == 31
    near = normalised("人工智能是计算机科学的一个分支。研究如何让机器像人一般思考和学习。")
    assert near_duplicate_groups([text, near]) == [[0, 1]]


def test_a_short_text_is_its_own_shingle() -> None:
    assert len(shingles("two words")) == 1
    assert shingles("two words") != shingles("two verbs")
    assert len(shingles("a b c d e")) == 3


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.sampled_from("ab "), max_size=12), max_size=25), st.randoms())
def test_every_position_is_in_one_group_and_order_plays_no_part(texts: list[str], generator: random.Random) -> None:
    texts = [normalised(text) for text in texts]
    groups = near_duplicate_groups(texts)
    assert sorted(position for group in groups for position in group) == list(range(len(texts)))
    order = generator.sample(range(len(texts)), len(texts))
    shuffled = near_duplicate_groups([texts[i] for i in order])
    assert {frozenset(order[i] for i in group) for group in shuffled} == {frozenset(group) for group in groups}


def test_a_shared_run_of_13_words_is_an_overlap_and_12_are_none() -> None:
    [held] = _texts(1, words=OVERLAP_WORDS, seed=1)
    twelve = " ".join(held.split()[:12])
    assert overlapping([f"a {held} b", f"a {twelve} b", "c"], [f"x {held} y"]) == {0}


def test_a_run_that_many_rows_share_is_template_and_no_overlap() -> None:
    [instruction] = _texts(1, words=20, seed=1)
    own = _texts(TEMPLATE_ROWS, words=5)
    few = [f"{instruction} {text}" for text in own[:-1]]
    assert overlapping(few, [f"{instruction} held out"]) == set(range(TEMPLATE_ROWS - 1))
    assert overlapping([*few, f"{instruction} {own[-1]}"], [f"{instruction} held out"]) == set()


def test_the_near_ones_among_few_are_those_that_a_whole_grouping_finds() -> None:
    others = [
        normalised(f"The {word} of the old harbour stands by the sea and nobody minds") for word in ("mast", "gate")
    ]
    same = others[0]
    changed = normalised("The mast of the old harbour stands by the sea and everybody minds")
    fresh = normalised("A lantern hangs over the door of an inn that has long been closed")
    assert near_any([same, changed, fresh], others) == {0, 1}
    assert near_any([], others) == near_any([same], []) == set()
