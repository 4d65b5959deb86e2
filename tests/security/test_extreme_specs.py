"""Specs with numbers at the ends of what numbers can be: refused, or prepared; never a crash of the worker, which is its operator's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from gradients.domain.json import Json
from gradients.errors import CustomerError
from gradients.tasks.preparation import prepare
from gradients.tasks.registry import TYPES, task_type, validate_request

WHOLE = (0, -1, 1, 2**31, 2**63, 10**400, -(10**400))
BROKEN = (5e-324, 1e-310, 1e-7, 1e-6, 1e6, 1e308, -1e308, float("inf"), float("nan"))
ENDS: tuple[Json, ...] = (*WHOLE, *BROKEN, True, None, "", "1e-310", [], {}, [1e-310], [float("nan")])
ROWS = 120


def _rows(kind: str, folder: Path) -> tuple[Path, Mapping[str, Json]]:
    """The first rows of the data set that ships for a type, and its parameters."""
    shown = task_type(kind).demonstrations[0]
    file = folder / "rows.jsonl"
    rows = shown.dataset.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(rows[:ROWS]), encoding="utf-8")
    return file, shown.parameters


def _prepared(spec: Mapping[str, Json], folder: Path) -> bool:
    """Whether it could be; anything but a customer's error is a crash."""
    try:
        request = validate_request(spec)
        prepare(task_type(request.type), request, salt=b"s", folder=folder)
    except CustomerError:
        return False
    return True


def _numbers(kind: str) -> Iterator[str]:
    """A type's parameters that are numbers, or lists of numbers."""
    for name, about in task_type(kind).schema.model_json_schema()["properties"].items():
        if '"number"' in json.dumps(about) or '"integer"' in json.dumps(about):
            yield name


@pytest.mark.parametrize("kind", TYPES)
def test_a_number_at_its_ends_is_refused_or_prepared(kind: str, tmp_path: Path) -> None:
    file, given = _rows(kind, tmp_path)
    spec: dict[str, Json] = {"type": kind, "base": "nano-lm", "dataset": str(file), "hours": 1}
    assert _prepared({**spec, "parameters": dict(given)}, tmp_path / "as_shipped")
    for name in _numbers(kind):
        for end in ENDS:
            _prepared({**spec, "parameters": {**given, name: end}}, tmp_path / "prepared")
    for end in ENDS:
        _prepared({**spec, "parameters": dict(given), "hours": end}, tmp_path / "prepared")


def test_weights_and_limits_of_merged_data_are_refused_or_prepared(tmp_path: Path) -> None:
    """By weights of 1e-310 a data set has endlessly many rows: dividing by them leaves no number."""
    file, given = _rows("instruct", tmp_path)
    spec: dict[str, Json] = {"type": "instruct", "base": "nano-lm", "parameters": dict(given), "hours": 1}

    def merged(name: str, one: Json, other: Json) -> bool:
        parts: list[Json] = [{"dataset": str(file), name: end} for end in (one, other)]
        return _prepared({**spec, "dataset": parts}, tmp_path / "prepared")

    taken = {end for end in (*WHOLE, *BROKEN) if merged("weight", end, end)}
    assert taken == {1, 1e-6, 1e6}
    assert merged("weight", 1e-6, 1e6)
    limits = {end for end in (*WHOLE, *BROKEN) if merged("limit", end, end)}
    assert limits == {2**31, 1e6}  # two rows are too few
