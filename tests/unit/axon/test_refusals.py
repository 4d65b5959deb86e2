"""An operator hears of refused requests, once, and of a clock that is off."""

from __future__ import annotations

import time

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from gradients.axon.auth import HEADER_HOTKEY, HEADER_NONCE, Forbidden, Unauthenticated
from gradients.axon.refusals import LINES_PER_MINUTE, QUIET_SECONDS, RefusalLog
from gradients.errors import GradientsError

STALE = Unauthenticated("nonce is more than 2s in the future", code="StaleRequest")
NO_PERMIT = Forbidden("uid 1 has no validator permit", code="no_permit")


def told(*requests: tuple[GradientsError, str, float], ahead_seconds: float = 0.0) -> list[EventDict]:
    """What is logged of refusals, each with its caller and its moment."""
    refusals = RefusalLog()
    with capture_logs() as logs:
        for error, caller, now in requests:
            nonce = str(time.time_ns() + int(ahead_seconds * 1e9))
            refusals.tell(error, {HEADER_HOTKEY: caller, HEADER_NONCE: nonce}, now=now)
    return list(logs)


def test_a_caller_is_told_of_once_for_each_reason_until_it_has_been_quiet() -> None:
    logs = told(
        (NO_PERMIT, "5A", 0.0),
        (NO_PERMIT, "5A", QUIET_SECONDS - 1),
        (STALE, "5A", 1.0),
        (NO_PERMIT, "5B", 2.0),
        (NO_PERMIT, "5A", QUIET_SECONDS),
    )
    assert [(log["caller"], log["event"]) for log in logs] == [
        ("5A", "request_refused"),
        ("5A", "clocks_differ"),
        ("5B", "request_refused"),
        ("5A", "request_refused"),
    ]


@pytest.mark.parametrize(("ahead_seconds", "said"), [(4000.0, "{} s ahead of this"), (-9000.0, "{} s old")])
def test_a_clock_that_is_off_is_told_with_the_remedy(ahead_seconds: float, said: str) -> None:
    (log,) = told((STALE, "5A", 0.0), ahead_seconds=ahead_seconds)
    assert log["log_level"] == "warning"
    assert -ahead_seconds - 1 <= log["seconds"] < -ahead_seconds + 600  # and whatever has passed since
    assert said.format(f"{abs(log['seconds']):,}") in log["problem"]
    assert "timedatectl" in log["problem"]


def test_strangers_are_not_told_of() -> None:
    assert told((Forbidden("5X is not registered on this subnet", code="not_registered"), "5X", 0.0)) == []


def test_forged_names_fill_neither_the_log_nor_the_memory() -> None:
    refusals = RefusalLog()
    with capture_logs() as logs:
        for number in range(3000):  # in one minute
            refusals.tell(NO_PERMIT, {HEADER_HOTKEY: f"5{number}"}, now=number / 50)
    assert len(logs) == len(refusals._told) <= 2 * LINES_PER_MINUTE
