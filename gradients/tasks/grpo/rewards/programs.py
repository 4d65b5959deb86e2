"""Rewards that run programs, which happens in the sandbox and nowhere else: a customer's function, and a model's Python."""

from __future__ import annotations

import ast
import inspect
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, Self, cast

from pydantic import Field, JsonValue, field_validator, model_validator

from gradients.errors import TaskInvalid
from gradients.sandbox.bubblewrap import run
from gradients.sandbox.limits import MEBIBYTE, ProgramLimits, ProgramStopped
from gradients.tasks.grpo import sandboxed
from gradients.tasks.grpo.rewards.asserts import Expectation, expectations, holds
from gradients.tasks.grpo.rewards.base import Case, Reward, Verdict
from gradients.tasks.grpo.rewards.structure import unfenced

_PROGRAMS = Path(inspect.getfile(sandboxed)).parent
_FUNCTION, _TESTS = _PROGRAMS / "function.py", _PROGRAMS / "tests.py"
_CASES_A_RUN = 32
_AT_ONCE = min(8, os.cpu_count() or 1)  # runs of the sandbox
_MOST = 1e300  # larger numbers are refused


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
        """It is read here, never run. A mark that editors put before a text is not part of the program."""
        source = source.removeprefix("\ufeff")
        try:
            statements = ast.parse(source).body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"it is not Python: {error}") from error
        if not any(isinstance(one, ast.FunctionDef) and one.name == "reward" for one in statements):
            raise ValueError("it must define a function reward(completion, row)")
        return source

    @model_validator(mode="after")
    def _has_a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self


def python_tests(asked: PythonTests, cases: Sequence[Case]) -> list[Verdict]:
    """The share of passed tests, one run of the sandbox for each answer; code that breaks or takes too long passes none."""
    limits = ProgramLimits(cpu_seconds=asked.cpu_seconds, memory_bytes=asked.memory_mebibytes * MEBIBYTE)
    # nothing is parsed in the threads: Python 3.11's parser keeps its depth in one place for all of them (python/cpython#106905)
    expected = [expectations(case.row[asked.column]) for case in cases]

    def run_tests(case: Case, tests: Sequence[Expectation]) -> JsonValue:
        """What the sandbox says of the tests' expressions; nothing when the answer's code broke it."""
        given = {"code": unfenced(case.completion, "python"), "expressions": [test.expression for test in tests]}
        try:
            return run(_TESTS, cast(JsonValue, given), limits=limits)
        except ProgramStopped:
            return None

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        written = list(pool.map(run_tests, cases, expected))
    verdicts: list[Verdict] = []
    for tests, values in zip(expected, written, strict=True):
        told = values if isinstance(values, list) and len(values) == len(tests) else []
        verdicts.append(sum(map(holds, tests, told)) / len(tests))
    return verdicts


def function(asked: Function, cases: Sequence[Case]) -> list[Verdict]:
    """What the customer's function says of each answer, in 0..1, or how it failed on it."""
    runs = [cases[start : start + _CASES_A_RUN] for start in range(0, len(cases), _CASES_A_RUN)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        said = [one for run in pool.map(lambda run: _say(asked, run), runs) for one in run]
    width = asked.high - asked.low
    return [one if isinstance(one, TaskInvalid) else min(1.0, max(0.0, (one - asked.low) / width)) for one in said]


def check_function(asked: Function, cases: Sequence[Case]) -> None:
    """Try the function before a task is offered. Raises TaskInvalid when it fails or depends on the order of its calls."""
    forwards, backwards = _say(asked, cases), _say(asked, cases[::-1])[::-1]
    for one in (*forwards, *backwards):
        if isinstance(one, TaskInvalid):
            raise one
    if forwards != backwards:
        raise TaskInvalid(
            "The reward function says something else when it is asked in another order",
            code="reward_not_pure",
            fix="It must depend on completion and row alone: no counters, no chance, no clock",
        )


def _say(asked: Function, cases: Sequence[Case]) -> list[Verdict]:
    """The function's own numbers. An answer that ends the whole run is found by asking about each of them alone."""
    limits = ProgramLimits(
        cpu_seconds=1 + asked.cpu_seconds * len(cases), memory_bytes=asked.memory_mebibytes * MEBIBYTE
    )
    calls = [{"completion": case.completion, "row": dict(case.row)} for case in cases]
    given = {"source": asked.source, "calls": calls, "cpu_seconds": asked.cpu_seconds}
    try:
        said = run(_FUNCTION, cast(JsonValue, given), limits=limits)
    except ProgramStopped as error:
        if len(cases) > 1:
            return [_say(asked, [case])[0] for case in cases]
        return [_failure(error.message)]
    if not isinstance(said, list) or len(said) != len(cases):
        return [_failure("it answered for itself")] * len(cases)
    verdicts: list[Verdict] = []
    for one in said:
        if isinstance(one, float | int) and abs(one) < _MOST:  # NaN is not less than anything
            verdicts.append(float(one))
        else:
            verdicts.append(_failure(one if isinstance(one, str) else "it gave something else than one finite number"))
    return verdicts


def _failure(problem: str) -> TaskInvalid:
    return TaskInvalid(f"The reward function failed: {problem}", code="reward_failed")
