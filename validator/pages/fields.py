"""A form out of a task type's schema, and a task's parameters out of what was filled in.

Objects of known fields become groups; numbers, texts, choices and switches become fields; whatever else a type takes (lists of reward
functions, for one) is written as JSON, with the type's own example beside it. An empty field is left out, so the schema's default holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, ValidationError

from gradients.domain.json import Json
from gradients.errors import TaskInvalid
from gradients.tasks.base import TaskType
from validator.pages.dependencies import Form, first

Model = TypeVar("Model", bound=BaseModel)
Kind = Literal["text", "number", "integer", "switch", "choice", "json", "source"]
Schema = Mapping[str, Any]  # a JSON schema, which is of any shape
MOST_DEPTH = 3
LONG_TEXT = 500  # characters that a text may have, from which it has several lines


@dataclass(frozen=True, slots=True)
class Field:
    """One parameter."""

    path: tuple[str, ...]  # keys from the parameters down to it
    kind: Kind
    required: bool
    description: str
    default: str  # as it is written into the field; empty for none
    choices: tuple[str, ...] = ()
    lowest: float | None = None
    highest: float | None = None
    is_long: bool = False
    example: str = ""

    @property
    def name(self) -> str:
        """Of the field in its form."""
        return ".".join(("parameters", *self.path))

    @property
    def group(self) -> str:
        """Of the fields that it stands with."""
        return " ".join(self.path[:-1])

    @property
    def label(self) -> str:
        """For people."""
        name = self.path[-1].replace("_", " ")
        return name[:1].upper() + name[1:]


def fields_of(kind: TaskType) -> list[Field]:
    """A field for each parameter of a type, the required ones first."""
    schema = kind.schema.model_json_schema()
    example = next((shown.parameters for shown in kind.demonstrations if shown.parameters), {})
    found = list(_fields(schema, schema.get("$defs", {}), (), example, kind.sources))
    return sorted(found, key=lambda field: (not field.required, len(field.path)))


def parameters_from(form: Form, fields: list[Field]) -> dict[str, Json]:
    """What was filled in, as a spec has it. Raises TaskInvalid that names the field."""
    parameters: dict[str, Json] = {}
    for field in fields:
        text = first(form, field.name).strip()
        if field.kind == "switch":
            value: Json = field.name in form
        elif not text:
            continue
        else:
            value = _value(field, text)
        inner = parameters
        for key in field.path[:-1]:
            inner = cast(dict[str, Json], inner.setdefault(key, {}))
        inner[field.path[-1]] = value
    return parameters


def _fields(
    schema: Schema, known: Schema, path: tuple[str, ...], example: Json, sources: tuple[str, ...]
) -> Iterator[Field]:
    for name, given in schema.get("properties", {}).items():
        shown = example.get(name) if isinstance(example, Mapping) else None
        inner, optional = _resolved(given, known)
        here = (*path, name)
        if inner.get("properties") and not optional and len(here) < MOST_DEPTH:
            yield from _fields(inner, known, here, shown, sources)
            continue
        required = name in schema.get("required", ())
        kind = "source" if not path and name in sources else _kind(inner)
        default = given.get("default")
        yield Field(
            here,
            kind,
            required=required,
            description=str(given.get("description", inner.get("description", ""))),
            default=_written(default, kind),
            choices=tuple(map(str, inner.get("enum", ()))),
            lowest=inner.get("minimum", inner.get("exclusiveMinimum")),
            highest=inner.get("maximum", inner.get("exclusiveMaximum")),
            is_long=inner.get("maxLength", 0) > LONG_TEXT,
            example=_written(shown, kind) if shown is not None else "",
        )


def _resolved(schema: Schema, known: Schema) -> tuple[Schema, bool]:
    """What a reference stands for, and whether null may stand in its place."""
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    optional = len(options) < len(schema.get("anyOf", ()))
    inner = options[0] if optional and len(options) == 1 else schema
    reference = inner.get("$ref", "").rpartition("/")[2]
    return cast(Schema, known.get(reference, inner)), optional


def _kind(schema: Schema) -> Kind:
    if "enum" in schema:
        return "choice"
    kinds: Mapping[str, Kind] = {"string": "text", "integer": "integer", "number": "number", "boolean": "switch"}
    return kinds.get(schema.get("type", ""), "json")


def _written(value: Json, kind: Kind) -> str:
    if value is None:
        return ""
    return json.dumps(value, indent=1) if kind == "json" or not isinstance(value, str) else value


def _value(field: Field, text: str) -> Json:
    try:
        if field.kind == "json":
            return cast(Json, json.loads(text))
        if field.kind == "integer":
            return int(text)
        return float(text) if field.kind == "number" else text
    except (ValueError, RecursionError) as error:
        what = {"json": "JSON", "integer": "a whole number", "number": "a number"}[field.kind]
        raise TaskInvalid(f"{field.name} is not {what}: {error}", fix="Mend it, or leave it empty") from error


def filled_in(model: type[Model], given: Mapping[str, Json], *, whole: str) -> Model:
    """What a form asks for. Raises TaskInvalid with the first field that is wrong; `whole` names the form where it is no single one."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        told = error.errors()[0]
        raise TaskInvalid(
            f"{'.'.join(map(str, told['loc'])) or whole}: {told['msg']}", fix="Mend the field and send again"
        ) from error
