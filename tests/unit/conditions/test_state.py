"""What a daemon remembers of its looks, and what it says about changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from gradients.conditions.state import CONDITION, Conditions
from gradients.doctor.findings import Finding

THERE = Finding("permit", "ok", "there")
GONE = Finding("permit", "missing", "none, with a stake of 1.0 alpha", "stake more on it")


@pytest.fixture(autouse=True)
def _own_figures() -> Iterator[None]:
    CONDITION.clear()
    yield
    CONDITION.clear()


def met(name: str) -> float | None:
    return REGISTRY.get_sample_value("gradients_condition_ok", {"condition": name})


def test_nothing_is_ready_before_anything_was_looked_at() -> None:
    conditions = Conditions()
    assert not conditions.ready()
    conditions.update("subnet", [THERE])
    assert conditions.ready()


def test_only_what_is_missing_stands_against_the_work() -> None:
    conditions = Conditions()
    conditions.update("gpu", [Finding("gpu", "note", "none; 2 CPU cores", "fine for tiny models")])
    conditions.update("subnet", [GONE])
    assert not conditions.ready()
    assert conditions.against("permit") == conditions.against() == "permit: none, with a stake of 1.0 alpha"
    assert conditions.against("gpu", "registered") == ""


def test_a_change_is_one_line_with_the_remedy_and_no_change_is_none() -> None:
    conditions = Conditions()
    with capture_logs() as said:
        for findings in ([THERE], [GONE], [GONE], [THERE], [THERE]):
            conditions.update("subnet", findings)
    broken = {"event": "condition_broken", "condition": "permit", "found": GONE.found, "remedy": "stake more on it"}
    mended = {"event": "condition_mended", "condition": "permit", "found": "there"}
    assert [{key: line[key] for key in line if key not in ("component", "log_level")} for line in said] == [
        broken,
        mended,
    ]
    assert [line["log_level"] for line in said] == ["warning", "info"]


def test_what_is_missing_from_the_start_is_told_too() -> None:
    with capture_logs() as said:
        Conditions().update("subnet", [GONE])
    assert [line["event"] for line in said] == ["condition_broken"]


def test_each_condition_is_a_figure_until_it_is_not_known_any_more() -> None:
    conditions = Conditions()
    conditions.update("subnet", [THERE, Finding("registered", "ok", "uid 3")])
    assert (met("permit"), met("registered")) == (1.0, 1.0)
    conditions.update("subnet", [GONE, Finding("registered", "ok", "uid 3")])
    assert (met("permit"), met("registered")) == (0.0, 1.0)
    conditions.update(
        "subnet", [Finding("registered", "missing", "no uid")]
    )  # without a seat there is no permit to lack
    assert (met("permit"), met("registered")) == (None, 0.0)
