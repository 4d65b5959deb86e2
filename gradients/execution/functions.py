"""From a name to the worker function that it stands for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from gradients.errors import JobFailed
from gradients.execution.job import WorkerFunction


def resolve(name: str) -> WorkerFunction:
    """The function named as "module:function". Raises JobFailed when there is none; errors inside the module are its own."""
    module_name, _, attribute = name.partition(":")
    try:
        function: object = getattr(importlib.import_module(module_name), attribute, None)
    except ModuleNotFoundError as error:
        raise JobFailed(f"{name} cannot be run: {error}", code="function_unknown") from error
    if not isinstance(function, Callable):  # type: ignore[arg-type]  # an abstract class is fine for isinstance
        raise JobFailed(f"{name} names no function", code="function_unknown")
    return cast(WorkerFunction, function)
