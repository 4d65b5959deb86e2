"""A reward for answers that are JSON of a given shape.

A small part of JSON Schema (draft 2020-12) that ends in time on any input; what is not in it is refused when the task is made, so nobody
believes in a rule that is not checked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, cast

from pydantic import Field, JsonValue, field_validator

from gradients.tasks.grpo.rewards.base import Reward, Row

BROKEN_SHARE = 0.25  # for JSON of another shape: more than no JSON, far less than the right one
_DEEPEST = 32  # levels of a schema
_TYPES: Mapping[str, Callable[[JsonValue], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: _is_number(value),
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or cast(float, value).is_integer()),
}
Check = Callable[[JsonValue, JsonValue], bool]  # the keyword's value, and the JSON that it is about
_CHECKS: Mapping[str, Check] = {
    "type": lambda names, value: any(_TYPES[name](value) for name in _names(names)),
    "enum": lambda allowed, value: any(_equal(value, one) for one in cast(list[JsonValue], allowed)),
    "const": lambda wanted, value: _equal(value, wanted),
    "properties": lambda schemas, value: (
        all(conforms(schema, value[name]) for name, schema in _object(schemas).items() if name in value)
        if isinstance(value, dict)
        else True
    ),
    "required": lambda names, value: set(_names(names)) <= set(value) if isinstance(value, dict) else True,
    "items": lambda schema, value: all(conforms(schema, one) for one in value) if isinstance(value, list) else True,
    "minItems": lambda least, value: len(value) >= _number(least) if isinstance(value, list) else True,
    "maxItems": lambda most, value: len(value) <= _number(most) if isinstance(value, list) else True,
    "minLength": lambda least, value: len(value) >= _number(least) if isinstance(value, str) else True,
    "maxLength": lambda most, value: len(value) <= _number(most) if isinstance(value, str) else True,
    "minimum": lambda least, value: _number(value) >= _number(least) if _is_number(value) else True,
    "maximum": lambda most, value: _number(value) <= _number(most) if _is_number(value) else True,
    "anyOf": lambda schemas, value: any(conforms(schema, value) for schema in cast(list[JsonValue], schemas)),
}
_SILENT = {"$schema", "$id", "$comment", "title", "description", "default", "examples"}  # say nothing about validity


class JsonSchema(Reward):
    """1 for JSON of the shape, 0.25 for JSON of another shape, 0 for anything else. A ```json fence around it is allowed."""

    kind: Literal["json_schema"]
    shape: dict[str, JsonValue] = Field(description="a JSON schema; see the README for the keywords that count")

    @field_validator("shape")
    @classmethod
    def _is_understood(cls, shape: dict[str, JsonValue]) -> dict[str, JsonValue]:
        _understand(shape, levels=_DEEPEST)
        return shape


def json_schema(asked: JsonSchema, completion: str, row: Row) -> float:
    """How near the answer is to JSON of the asked shape."""
    try:
        value = cast(JsonValue, json.loads(unfenced(completion, "json")))
        return 1.0 if conforms(asked.shape, value) else BROKEN_SHARE
    except (ValueError, RecursionError):
        return 0.0


def conforms(schema: JsonValue, value: JsonValue) -> bool:
    """Whether the JSON has the shape; `true` is any shape, and `false` is none."""
    if isinstance(schema, bool):
        return schema
    wanted = _object(schema)
    if wanted.get("additionalProperties") is not None and isinstance(value, dict):
        others = value.keys() - _object(wanted.get("properties", {})).keys()
        if not all(conforms(wanted["additionalProperties"], value[name]) for name in others):
            return False
    return all(_CHECKS[keyword](about, value) for keyword, about in wanted.items() if keyword in _CHECKS)


def unfenced(completion: str, language: str) -> str:
    """What stands inside the first fence of the language, or the whole answer when it has no fence."""
    _, fence, rest = completion.partition(f"```{language}")
    if not fence:
        _, fence, rest = completion.partition("```")
    return rest.partition("```")[0].strip() if fence else completion.strip()


def _understand(schema: JsonValue, *, levels: int) -> None:
    """Raises ValueError for whatever `conforms` does not check, or could trip over."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict) or levels == 0:
        raise ValueError(f"a schema is an object of at most {_DEEPEST} levels")
    for keyword, about in schema.items():
        if keyword == "additionalProperties" or keyword == "items":
            _understand(about, levels=levels - 1)
        elif keyword == "properties" or keyword == "anyOf":
            inner = about.values() if isinstance(about, dict) else about
            if isinstance(about, dict) != (keyword == "properties") or not isinstance(about, dict | list):
                raise ValueError(f"'{keyword}' holds schemas")
            for one in cast(Sequence[JsonValue], inner):
                _understand(one, levels=levels - 1)
        elif keyword in _CHECKS:
            _understand_rule(keyword, about)
        elif keyword not in _SILENT:
            raise ValueError(f"the keyword '{keyword}' is not checked; those that are: {', '.join(sorted(_CHECKS))}")


def _understand_rule(keyword: str, about: JsonValue) -> None:
    texts = isinstance(about, list) and all(isinstance(one, str) for one in about)
    good = {
        "type": (isinstance(about, str) or texts) and set(_names(about)) <= set(_TYPES),
        "required": texts,
        "enum": isinstance(about, list),
        "const": True,
    }
    if not good.get(keyword, _is_number(about)):
        raise ValueError(f"'{keyword}' cannot be {json.dumps(about)[:60]}")


def _is_number(value: JsonValue) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)  # of any size: a float may be too small for it


def _equal(one: JsonValue, other: JsonValue) -> bool:
    """Equal as JSON: 1 and 1.0 are, 1 and true are not."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _number(value: JsonValue) -> float:
    return cast(float, value)


def _object(value: JsonValue) -> dict[str, JsonValue]:
    return cast(dict[str, JsonValue], value)


def _names(value: JsonValue) -> list[str]:
    return [value] if isinstance(value, str) else cast(list[str], value)
