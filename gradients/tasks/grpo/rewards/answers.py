"""Rewards for the right answer: the same text, or the same number."""

from __future__ import annotations

import math
import re
from typing import Literal

from pydantic import Field

from gradients.tasks.grpo.rewards.base import Reward, Row, after, text_of

# Signs and separators as people, word processors, keyboards of Asia and LaTeX write them, in ASCII.
_IN_ASCII = str.maketrans(
    {
        **dict.fromkeys(
            "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-"
        ),  # hyphens, dashes as minus, minus itself, small, full width
        **dict.fromkeys("\ufe62\uff0b", "+"),
        **dict.fromkeys(
            "\u066c\uff0c\u00a0\u2009\u202f\u2019'_", ","
        ),  # between thousands; spaces that don't break, Swiss, Python's
        **dict.fromkeys("\u066b\uff0e", "."),
    }
)
_LATEX_COMMAS = re.compile(r"\{,\}|,\\!|\\,")
_NUMBER = re.compile(
    r"(?:(?<!\w)[-+][$€£¥₹]?)?"  # in 10-3 and x-3 it takes away
    # commas between thousands alone, or between thousands and hundreds as in India: 1,2,3 are three numbers
    r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,2}(?:,\d{2})+,\d{3}(?!\d)|\d+)(?:\.\d*)?|\.\d+)"
    r"(?:[eE][-+]?\d{1,3})?"
)
_NOT_OF_A_NUMBER = str.maketrans("", "", ",$€£¥₹")


class ExactAnswer(Reward):
    """1 for the right text, 0 for any other."""

    kind: Literal["exact_answer"]
    column: str = Field(default="answer", min_length=1, description="holds the right answer")
    after: str = Field(default="", max_length=100, description="only what stands behind the last of these words counts")
    ignore_case: bool = Field(default=True, description="whether capitals and small letters are the same")


class NumericAnswer(Reward):
    """1 when the last number is the right one, 0 otherwise."""

    kind: Literal["numeric_answer"]
    column: str = Field(default="answer", min_length=1, description="holds the right number, perhaps at a text's end")
    after: str = Field(default="", max_length=100, description="only what stands behind the last of these words counts")
    tolerance: float = Field(default=1e-6, ge=0, le=1, description="how far off it may be, as a share of the right one")


def exact_answer(asked: ExactAnswer, completion: str, row: Row) -> float:
    """Whether answer and column say the same, whatever the white space and the full stop at the end."""
    texts = (after(completion, asked.after), text_of(row, asked.column))
    ours, right = (" ".join(text.split()).removesuffix(".").rstrip() for text in texts)
    return float(ours.casefold() == right.casefold() if asked.ignore_case else ours == right)


def numeric_answer(asked: NumericAnswer, completion: str, row: Row) -> float:
    """Whether the last numbers of answer and column are equal within the tolerance."""
    ours = last_number(after(completion, asked.after))
    right = last_number(text_of(row, asked.column))
    return float(
        ours is not None and right is not None and math.isclose(ours, right, rel_tol=asked.tolerance, abs_tol=1e-12)
    )


def last_number(text: str) -> float | None:
    """The last number in a text; None when there is none."""
    found = _NUMBER.findall(_LATEX_COMMAS.sub(",", text.translate(_IN_ASCII)))
    return float(found[-1].translate(_NOT_OF_A_NUMBER)) if found else None
