"""What people and machines read of one log line."""

from __future__ import annotations

import json

import pytest

from gradients.log import configure_logging, get_logger

TRACE = (
    'Traceback (most recent call last):\n  File "a.py", line 1\n    x = 1 / 0\n    ~~^~~\nZeroDivisionError: by zero\n'
)


def test_a_text_of_several_lines_is_one_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(style="text")
    get_logger("test").warning("worker_restarts", problem=TRACE, task="t-1")
    (line,) = capsys.readouterr().err.splitlines()
    assert "Traceback (most recent call last): | " in line
    assert "x = 1 / 0 | ZeroDivisionError: by zero" in line
    assert "^" not in line


def test_machines_get_it_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(style="json")
    get_logger("test").warning("worker_restarts", problem=TRACE)
    assert json.loads(capsys.readouterr().err)["problem"] == TRACE


def test_a_crash_keeps_its_stack_trace(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(style="text")
    try:
        raise ValueError("boom")
    except ValueError:
        get_logger("test").exception("crashed")
    assert len(capsys.readouterr().err.splitlines()) > 3
