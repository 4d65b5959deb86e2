"""Rewards for the right answer: the same text, or the same number."""

from __future__ import annotations

import math
import re
from typing import Literal

from pydantic import Field

from gradients.tasks.grpo.rewards.base import Reward, Row, after, text_of

_NUMBER = re.compile(
    r"(?:(?<!\w)[-+])?"  # in 10-3 and x-3 it takes away
    r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d*)?|\.\d+)"  # commas between thousands alone: 1,2,3 are three numbers
    r"(?:[eE][-+]?\d{1,3})?"
)


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
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None
