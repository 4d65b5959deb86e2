"""Runs inside the sandbox: calls a customer's reward function, once for each answer. Imports nothing of ours."""

from __future__ import annotations

import math
import signal
from types import FrameType
from typing import Any  # the names of a program that we have not written


class _TookTooLong(BaseException):
    """Raised wherever the function happens to be."""


def main(given: dict[str, Any]) -> list[float | str]:
    """What reward(completion, row) says, in the order of the calls; in words where it failed."""
    names: dict[str, Any] = {"__name__": "reward"}
    try:
        exec(compile(given["source"], "reward.py", "exec"), names)  # noqa: S102 (this is what the sandbox is for)
    except Exception as error:  # before the function is there to be asked, it has failed on every answer
        return [_in_words(error)] * len(given["calls"])
    signal.signal(signal.SIGVTALRM, _stop)
    return [_said(names["reward"], call, given["cpu_seconds"]) for call in given["calls"]]


def _said(reward: Any, call: dict[str, Any], cpu_seconds: int) -> float | str:  # noqa: ANN401 (as above)
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_seconds)
    try:
        number = float(reward(call["completion"], call["row"]))
    except _TookTooLong:
        return f"it took more than {cpu_seconds} s"
    except Exception as error:  # whatever it raises, it has failed on this answer alone
        return _in_words(error)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return number if math.isfinite(number) else "it did not give a finite number"


def _in_words(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"there is no module {error.name!r} in the sandbox; it has the standard library"[:300]
    return f"{type(error).__name__}: {error}"[:300]


def _stop(number: int, frame: FrameType | None) -> None:
    raise _TookTooLong
