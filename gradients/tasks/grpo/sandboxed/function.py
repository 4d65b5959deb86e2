"""Runs inside the sandbox: calls a customer's reward function, once for each answer. Imports nothing of ours."""

from __future__ import annotations

from typing import Any  # the names of a program that we have not written


def main(given: dict[str, Any]) -> list[float]:
    """What reward(completion, row) says, in the order of the calls."""
    names: dict[str, Any] = {"__name__": "reward"}
    exec(compile(given["source"], "reward.py", "exec"), names)  # noqa: S102 (this is what the sandbox is for)
    return [float(names["reward"](call["completion"], call["row"])) for call in given["calls"]]
