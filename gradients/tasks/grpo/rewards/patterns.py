"""A reward for answers that match a regular expression.

Covers: a pattern that backtracks for ever is stopped, and one that would fill the memory when it is compiled is refused unread. Does not
cover: what a pattern costs within its second.
"""

from __future__ import annotations

import math
import re
from typing import Literal

import regex
from pydantic import Field, field_validator

from gradients.errors import TaskInvalid
from gradients.tasks.grpo.rewards.base import Reward, Row

LONGEST_SECONDS = 1.0  # of one match
MOST_COPIES = 10_000  # `regex` writes counted repetitions out, and those inside of others multiply
_COUNTED = re.compile(r"\{(\d*),?(\d*)\}")
_QUOTED = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)  # escapes, and sets of characters
_NAMED_SET = re.compile(r"\[:\^?\w+:\]")


class RegularExpression(Reward):
    """1 for an answer that matches, 0 for one that does not."""

    kind: Literal["regular_expression"]
    pattern: str = Field(min_length=1, max_length=1000, description="as Python writes it")
    where: Literal["anywhere", "start", "whole"] = Field(
        default="anywhere", description="which part of the answer has to match"
    )
    ignore_case: bool = Field(default=False, description="whether capitals and small letters are the same")
    negated: bool = Field(default=False, description="reward answers that do not match instead")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        # how often something could be written out if all counted repetitions stood inside one another
        copies = math.prod(max(1, *(int(number or 1) for number in match)) for match in _COUNTED.findall(pattern))
        if copies > MOST_COPIES:
            raise ValueError(f"its counted repetitions multiply to more than {MOST_COPIES:,}")
        if "{" in _COUNTED.sub("", _QUOTED.sub("", pattern)) or _NAMED_SET.search(pattern):
            raise ValueError(
                "a brace that counts nothing is written \\{ or [{], and there are no sets like [[:alpha:]]"
            )
        try:
            # what only `regex` knows is left out, also what means something else there: fuzzy matches
            re.compile(pattern)
            regex.compile(pattern)
        except (re.error, regex.error, RecursionError, OverflowError) as error:
            raise ValueError(f"it is not a regular expression: {error}") from error
        return pattern


def regular_expression(asked: RegularExpression, completion: str, row: Row) -> float:
    """Whether the answer matches. Raises TaskInvalid when the pattern takes too long."""
    pattern = regex.compile(asked.pattern, regex.IGNORECASE if asked.ignore_case else 0)
    match = {"anywhere": pattern.search, "start": pattern.match, "whole": pattern.fullmatch}[asked.where]
    try:
        matches = match(completion.strip(), timeout=LONGEST_SECONDS) is not None
    except TimeoutError as error:
        raise TaskInvalid(
            f"The pattern {asked.pattern!r} takes longer than {LONGEST_SECONDS:g} s on an answer of {len(completion)} characters",
            code="reward_slow",
            fix="Write it without repetitions inside of repetitions",
        ) from error
    return float(matches != asked.negated)
