"""All rewards by name, and what they say together: the weighted mean, which lies between 0 and 1 whatever anybody else scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from gradients.errors import TaskInvalid
from gradients.tasks.grpo.rewards.answers import ExactAnswer, NumericAnswer, exact_answer, numeric_answer
from gradients.tasks.grpo.rewards.base import Case, Reward, Row, Verdict
from gradients.tasks.grpo.rewards.layout import Layout, Length, layout, length
from gradients.tasks.grpo.rewards.patterns import RegularExpression, regular_expression
from gradients.tasks.grpo.rewards.programs import Function, PythonTests, function, python_tests
from gradients.tasks.grpo.rewards.structure import JsonSchema, json_schema

AnyReward = Annotated[
    ExactAnswer | NumericAnswer | Layout | Length | RegularExpression | JsonSchema | PythonTests | Function,
    Field(discriminator="kind"),
]
# Any: each function takes its own parameters, and the table pairs them.
_EACH: Mapping[type[Reward], Callable[[Any, str, Row], float]] = {
    ExactAnswer: exact_answer,
    NumericAnswer: numeric_answer,
    Layout: layout,
    Length: length,
    RegularExpression: regular_expression,
    JsonSchema: json_schema,
}
_TOGETHER: Mapping[type[Reward], Callable[[Any, Sequence[Case]], list[Verdict]]] = {
    PythonTests: python_tests,
    Function: function,
}


class Judged(NamedTuple):
    """What one reward says of answers."""

    scores: list[float]  # 0 to 1, in the answers' order; 0 where the reward failed
    failures: list[TaskInvalid]


def judge(asked: Reward, cases: Sequence[Case]) -> Judged:
    """What the reward says. An answer that a customer's reward fails on is not a good one, so nobody gains by tripping it."""
    said = judge_each(asked, cases)
    failures = [one for one in said if isinstance(one, TaskInvalid)]
    return Judged([0.0 if isinstance(one, TaskInvalid) else one for one in said], failures)


def judge_each(asked: Reward, cases: Sequence[Case]) -> list[Verdict]:
    """What the reward says of each answer: a score, or how it failed on it."""
    if together := _TOGETHER.get(type(asked)):
        return together(asked, cases)
    said = list[Verdict]()
    for completion, row in cases:
        try:
            said.append(_EACH[type(asked)](asked, completion, row))
        except TaskInvalid as failure:
            said.append(failure)
    return said


def check_works(asked: Reward, rows: Sequence[Row]) -> None:
    """Raises TaskInvalid for a reward that fails on whatever it is asked, also on answers that no model gave."""
    cases = [Case(answer, row) for row in rows for answer in ("", str(row["prompt"]))]
    failures = judge(asked, cases).failures
    if len(failures) == len(cases):
        raise failures[0]


def weighted(rewards: Sequence[Reward], by_reward: Sequence[Sequence[float]]) -> list[float]:
    """The weighted mean over rewards of each answer, 0 to 1.

    Args:
        by_reward: what each reward said [rewards, answers].
    """
    total = math.fsum(reward.weight for reward in rewards)
    return [
        math.fsum(reward.weight * said for reward, said in zip(rewards, answer, strict=True)) / total
        for answer in zip(*by_reward, strict=True)
    ]
