"""One small task of every type, for tests that hold for all of them. A new type brings its own: a module of its name with a SAMPLE.

A type of another package brings it as the module `sample` beside its declaration.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from gradients.tasks.registry import TYPES
from gradients.testing.tiny_models import write_tiny_llama

SourceRow = Mapping[str, JsonValue]


def no_parameters(_: Path) -> Mapping[str, JsonValue]:
    """The type's defaults."""
    return {}


@dataclass(frozen=True, slots=True)
class TaskSample:
    """A task that a worker trains and measures in seconds on one core."""

    rows: Sequence[SourceRow]  # as a customer gives them, enough to split
    wrong_type: SourceRow  # a row with a value that no row may hold
    huge: SourceRow  # a row larger than any may be
    empty: SourceRow  # a row with nothing in it that could be learnt
    near: SourceRow  # nearly what the first row says
    plan: Mapping[
        str, JsonValue
    ]  # fields of TrainingPlan; its max_epochs ends training after seconds, and the metric is better then
    beside: SourceRow | None = None  # another row of the first one's group, where the type has groups
    parameters: Callable[[Path], Mapping[str, JsonValue]] = no_parameters  # may write files of its own into the folder
    write_base: Callable[[Path], Path] = field(default=write_tiny_llama)  # leaves a base in the folder


def sample_of(task_type: str) -> TaskSample:
    """The sample of a type. Raises ModuleNotFoundError when it has none."""
    package = TYPES[task_type].rpartition(".")[0]
    ships = package == f"gradients.tasks.{task_type}"
    sample: TaskSample = importlib.import_module(f"{__name__}.{task_type}" if ships else f"{package}.sample").SAMPLE
    return sample
