"""Runs inside the sandbox: runs a model's Python, then evaluates expressions with it. Imports nothing of ours.

That Python can take this program over and answer in its place, so nothing here knows what is expected. What is kept by reference is for
answers that redefine a builtin without meaning harm.
"""

from __future__ import annotations

from typing import Any  # the names of a program that we have not written

_evaluate, _write, _type, _all = eval, repr, type, all
_FLAT = (type(None), bool, int, float, complex, str, bytes)
_NESTED = (list, tuple, set)


def main(given: dict[str, Any]) -> list[str | None]:
    """How Python writes each expression's value; None where it raised, or gave anything but plain values."""
    names: dict[str, Any] = {"__name__": "answer"}
    exec(compile(given["code"], "answer.py", "exec"), names)  # noqa: S102 (this is what the sandbox is for)
    return [_written(expression, names) for expression in given["expressions"]]


def _written(expression: str, names: dict[str, Any]) -> str | None:
    try:
        value = _evaluate(expression, names)
        return _write(value) if _is_plain(value) else None
    except Exception:  # whatever the code raises, its test has failed
        return None


def _is_plain(value: Any) -> bool:  # noqa: ANN401 (as above)
    """Whether it is made of Python's own types alone: of others, nobody knows what they write."""
    kind = _type(value)
    if kind is dict:
        return _all(_is_plain(part) for item in value.items() for part in item)
    return _all(_is_plain(part) for part in value) if kind in _NESTED else kind in _FLAT
