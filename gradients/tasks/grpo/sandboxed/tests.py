"""Runs inside the sandbox: runs a model's Python, then evaluates expressions with it. Imports nothing of ours."""

from __future__ import annotations

from typing import Any  # the names of a program that we have not written


def main(given: dict[str, Any]) -> list[str | None]:
    """How Python writes each expression's value; None where it raised."""
    names: dict[str, Any] = {"__name__": "answer"}
    exec(compile(given["code"], "answer.py", "exec"), names)  # noqa: S102 (this is what the sandbox is for)
    return [_written(expression, names) for expression in given["expressions"]]


def _written(expression: str, names: dict[str, Any]) -> str | None:
    try:
        return repr(eval(expression, names))  # noqa: S307 (as above)
    except Exception:  # whatever the code raises, its test has failed
        return None
