"""What a value may hold that is stored and signed as JSON."""

from __future__ import annotations

import json
import math

import pytest

from gradients.domain.json import check_storable
from gradients.errors import TaskInvalid
from gradients.tasks.registry import validate_request

SPEC = {"type": "instruct", "base": "nano-lm", "dataset": "rows.jsonl", "hours": 1}


@pytest.mark.parametrize(
    "value", ["", "ü€😀", "\\u0000", [1, 2.5, None, True], {"a": {"b": ["c"]}}, {"\\ud800": 0}, 10**400]
)
def test_text_and_finite_numbers_can_be_stored(value: object) -> None:
    check_storable(value)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("a\x00b", "it"),
        ("\ud800", "it"),
        ({"a": [0, {"b": "\udfff"}]}, "a.1.b"),
        ({"a": {"\x00": 1}}, "a name in a"),
        ({"a": [math.nan]}, "a.0"),
        ({"a": -math.inf}, "a"),
        (json.loads('{"a": 1e999}'), "a"),
    ],
)
def test_what_no_database_takes_is_named_by_its_place(value: object, place: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_storable(value)
    assert str(caught.value).startswith(f"{place} ")


def test_depth_is_no_trouble() -> None:
    deep: object = "\x00"
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="NUL"):
        check_storable(deep)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "\ud800"},
        {"base": "org/\x00"},
        {"dataset": "https://example.com/\x00.csv"},
        {"dataset": {"kind": "url", "url": "https://example.com/\ud800"}},
        {"parameters": {"prompt": "\x00"}},
        {"parameters": {"\ud800": 1}},
        {"parameters": {"rewards": [{"kind": "json_schema", "schema": {"const": math.nan}}]}},
        {"parameters": {"rewards": [{"kind": "json_schema", "schema": {"enum": [math.inf], "title": "\x00"}}]}},
    ],
)
def test_a_spec_that_cannot_be_stored_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(TaskInvalid, match=r"which is not text|not a finite number"):
        validate_request({**SPEC, **change})  # type: ignore[dict-item]  # what JSON can say, and JSON is not
