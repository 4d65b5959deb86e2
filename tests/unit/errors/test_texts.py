"""Strangers' words are readable, short and without effect, whatever they hold."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradients.domain.failure import Failure
from gradients.errors import Blame, SubmissionRejected
from gradients.texts import harmless, storable

JOINERS = "\u200c\u200d"  # of Persian and Indian scripts, and of emoji


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("x\x00y", "x\\x00y"),
        ("\x1b[2J\x1b]8;;http://evil\x07here", "\\x1b[2J\\x1b]8;;http://evil\\x07here"),
        ("\x9b2J", "\\x9b2J"),  # the one-character form of the same escape
        ("cut \ud83d here", "cut \\ud83d here"),
        ("user\u202egnp.exe", "user\\u202egnp.exe"),
        ("two\nlines\r\n", "two\\x0alines\\x0d\\x0a"),
        ("next\u2028line", "next\\u2028line"),
        ("hid\U000e0041den", "hid\\U000e0041den"),
        ("naïve Größe 日本語 👩\u200d🚀 [/nope]", "naïve Größe 日本語 👩\u200d🚀 [/nope]"),
    ],
)
def test_what_would_have_an_effect_is_spelt_out_and_the_rest_stays(said: str, shown: str) -> None:
    assert harmless(said) == shown


def test_every_character_without_a_shape_is_spelt_out() -> None:
    kinds = ("Cc", "Cs", "Cf", "Zl", "Zp")
    shapeless = [
        c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in kinds and c not in JOINERS
    ]
    assert [c for c in shapeless if harmless(c) == c] == []


def test_lines_stay_where_they_are_wanted() -> None:
    assert harmless("one\n\ttwo\r", lines=True) == "one\n\ttwo\\x0d"


def test_a_long_text_keeps_its_ends_and_says_how_long_it_was() -> None:
    shown = harmless("start" + "x" * 900_000 + "end", most=100)
    assert len(shown) == 100
    assert shown.startswith("startxxx")
    assert "(900,008 characters)" in shown
    assert shown.endswith("xxxend")


@given(st.text(), st.integers(0, 80))
def test_no_text_gets_through_with_an_effect_or_longer_than_it_may_be(text: str, most: int) -> None:
    shown = harmless(text, most=most)
    assert len(shown) <= most
    assert not {c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Cf", "Zl", "Zp") and c not in JOINERS}
    assert harmless(shown, most=most) == shown


@given(st.text())
def test_what_databases_take_is_left_as_it_is(text: str) -> None:
    stored = storable(text)
    assert "\x00" not in stored
    stored.encode()
    if "\x00" not in text and not any(unicodedata.category(c) == "Cs" for c in text):
        assert stored == text


def test_a_failure_carries_no_harm_and_no_bulk() -> None:
    error = SubmissionRejected(f"{'n' * 900_000}\x1b[2J is not a weight", fix="Hand in \x00 others")
    assert len(str(error)) < 5_000
    assert "\x1b" not in str(error)
    assert "\x00" not in str(error)
    assert Failure.of(error).message == str(error)
    assert Failure(Blame.MINER, "start_declined", "no\x00").message == "no\\x00"
