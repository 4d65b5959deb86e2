"""All rewards by name, and what they say together: the weighted mean, which lies between 0 and 1 whatever anybody else scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from gradients.tasks.grpo.rewards.answers import ExactAnswer, NumericAnswer, exact_answer, numeric_answer
from gradients.tasks.grpo.rewards.base import Case, Reward, Row
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
_TOGETHER: Mapping[type[Reward], Callable[[Any, Sequence[Case]], list[float]]] = {
    PythonTests: python_tests,
    Function: function,
}


def scores(asked: Reward, cases: Sequence[Case]) -> list[float]:
    """What one reward says of each answer, 0 to 1. Raises TaskInvalid when a customer's reward fails."""
    together = _TOGETHER.get(type(asked))
    if together is not None:
        return together(asked, cases)
    return [_EACH[type(asked)](asked, case.completion, case.row) for case in cases]


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
