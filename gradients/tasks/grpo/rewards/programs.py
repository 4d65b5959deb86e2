"""Rewards that run programs, which happens in the sandbox and nowhere else: a customer's function, and a model's Python."""

from __future__ import annotations

import ast
import inspect
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple, Self, cast

from pydantic import Field, JsonValue, field_validator, model_validator

from gradients.errors import TaskInvalid
from gradients.sandbox.bubblewrap import run
from gradients.sandbox.limits import MEBIBYTE, Limits, ProgramStopped
from gradients.tasks.grpo import sandboxed
from gradients.tasks.grpo.rewards.base import Case, Reward
from gradients.tasks.grpo.rewards.structure import unfenced

_PROGRAMS = Path(inspect.getfile(sandboxed)).parent
_FUNCTION, _TESTS = _PROGRAMS / "function.py", _PROGRAMS / "tests.py"
_CASES_A_RUN = 32
_MOST_AT_ONCE = 8
_CLOSE = 1e-6  # what numbers with a fraction may differ by, as a share
_LONGEST_ANSWER = 100_000  # characters of a value that a test gave


class PythonTests(Reward):
    """The share of a row's tests that the Python in the answer passes."""

    kind: Literal["python_tests"]
    column: str = Field(
        default="tests", min_length=1, description="holds assert statements, as text or a list of texts"
    )
    cpu_seconds: int = Field(default=2, ge=1, le=60, description="for an answer and all of its tests")
    memory_mebibytes: int = Field(default=256, ge=64, le=4096, description="for the same")


class Function(Reward):
    """What the customer's own `def reward(completion, row)` says, brought to 0..1 by a range that is fixed for all."""

    kind: Literal["function"]
    source: str = Field(min_length=1, max_length=65_536, description="Python with a function reward(completion, row)")
    columns: tuple[str, ...] = Field(default=(), max_length=32, description="columns that it finds in `row`")
    low: float = Field(default=0.0, ge=-1e9, le=1e9, description="what counts as 0, and so does anything below")
    high: float = Field(default=1.0, ge=-1e9, le=1e9, description="what counts as 1, and so does anything above")
    cpu_seconds: int = Field(default=1, ge=1, le=10, description="for one answer")
    memory_mebibytes: int = Field(default=256, ge=64, le=4096, description="for all answers of one run")

    @field_validator("source")
    @classmethod
    def _defines_reward(cls, source: str) -> str:
        """It is read here, never run."""
        try:
            statements = ast.parse(source).body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"it is no Python: {error}") from error
        if not any(isinstance(one, ast.FunctionDef) and one.name == "reward" for one in statements):
            raise ValueError("it must define a function reward(completion, row)")
        return source

    @model_validator(mode="after")
    def _has_a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self


class Expectation(NamedTuple):
    """One test: an expression, and the literal that it must give."""

    expression: str
    value: str


def expectations(tests: JsonValue) -> list[Expectation]:
    """The tests of a row. Raises ValueError that says which of them cannot be used.

    `assert <expression> == <literal>` and `assert <expression>` (which must be true) are understood. Only the expression goes into the
    sandbox; what it must give stays outside, so that no answer can pass by handing it back.
    """
    text = "\n".join(str(line) for line in tests) if isinstance(tests, list) else str(tests)
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"no Python: {error}") from error
    if not statements:
        raise ValueError("no test")
    return [_expectation(statement) for statement in statements]


def python_tests(asked: PythonTests, cases: Sequence[Case]) -> list[float]:
    """The share of passed tests, one run of the sandbox for each answer; code that breaks or takes too long passes none."""
    limits = Limits(cpu_seconds=asked.cpu_seconds, memory_bytes=asked.memory_mebibytes * MEBIBYTE)
    with ThreadPoolExecutor(min(_MOST_AT_ONCE, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda case: _passed(asked, case, limits), cases))


def function(asked: Function, cases: Sequence[Case]) -> list[float]:
    """What the customer's function says of each answer, in 0..1. Raises TaskInvalid when it fails: never a miner's fault."""
    numbers: list[float] = []
    for start in range(0, len(cases), _CASES_A_RUN):
        numbers += _say(asked, cases[start : start + _CASES_A_RUN])
    return [min(1.0, max(0.0, (number - asked.low) / (asked.high - asked.low))) for number in numbers]


def check_function(asked: Function, cases: Sequence[Case]) -> None:
    """Try the function before a task is offered. Raises TaskInvalid when it fails or depends on the order of its calls."""
    if _say(asked, cases) != _say(asked, cases[::-1])[::-1]:
        raise TaskInvalid(
            "The reward function says something else when it is asked in another order",
            code="reward_not_pure",
            fix="It must depend on completion and row alone: no counters, no chance, no clock",
        )


def _say(asked: Function, cases: Sequence[Case]) -> list[float]:
    limits = Limits(cpu_seconds=1 + asked.cpu_seconds * len(cases), memory_bytes=asked.memory_mebibytes * MEBIBYTE)
    calls = [{"completion": case.completion, "row": dict(case.row)} for case in cases]
    try:
        said = run(_FUNCTION, cast(JsonValue, {"source": asked.source, "calls": calls}), limits=limits)
    except ProgramStopped as error:
        raise TaskInvalid(f"The reward function failed: {error.message}", code="reward_failed") from error
    if not isinstance(said, list) or len(said) != len(cases) or not all(map(_is_finite, said)):
        raise TaskInvalid("The reward function gave something else than one finite number", code="reward_failed")
    return [float(cast(float, number)) for number in said]


def _is_finite(value: JsonValue) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e300 and math.isfinite(value)


def _passed(asked: PythonTests, case: Case, limits: Limits) -> float:
    expected = expectations(case.row[asked.column])
    given = {"code": unfenced(case.completion, "python"), "expressions": [one.expression for one in expected]}
    try:
        values = run(_TESTS, cast(JsonValue, given), limits=limits)
    except ProgramStopped:
        return 0.0
    if not isinstance(values, list) or len(values) != len(expected):
        return 0.0
    return sum(_is(value, one.value) for value, one in zip(values, expected, strict=True)) / len(expected)


def _is(value: JsonValue, expected: str) -> bool:
    """Whether what the sandbox wrote of a value is the expected literal; it is read as a literal, never run."""
    if not isinstance(value, str) or len(value) > _LONGEST_ANSWER:
        return False
    try:
        ours, right = ast.literal_eval(value), ast.literal_eval(expected)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return False
    if isinstance(ours, float) and isinstance(right, int | float):
        return math.isclose(ours, right, rel_tol=_CLOSE, abs_tol=_CLOSE)
    return bool(ours == right)


def _expectation(statement: ast.stmt) -> Expectation:
    if not isinstance(statement, ast.Assert):
        raise ValueError(f"'{ast.unparse(statement)[:60]}' is no assert statement")
    test = statement.test
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
        right = ast.unparse(test.comparators[0])
        try:
            ast.literal_eval(right)
        except ValueError as error:
            raise ValueError(f"'{right[:60]}' is no literal") from error
        return Expectation(ast.unparse(test.left), right)
    return Expectation(f"bool({ast.unparse(test)})", "True")
