"""The API for who reads it in a browser: its OpenAPI document as a page, which says nothing that the document does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from validator.pages.dependencies import AnyVisitor, PagesBehind, show

PATH = "/api"
Described = Mapping[str, Any]  # a part of an OpenAPI document, which is JSON of many forms

router = APIRouter(include_in_schema=False)


class Kind(NamedTuple):
    """What a field is: words, of which some name a body that stands on the same page."""

    words: tuple[tuple[str, bool], ...]  # and whether they name a body


class Field(NamedTuple):
    """A field of a body, or a parameter of an operation."""

    name: str
    kind: Kind
    required: bool
    said: str


class Operation(NamedTuple):
    """A method of a path."""

    name: str
    needs_key: bool
    tag: str
    said: str
    parameters: tuple[Field, ...]
    takes: Kind
    answers: tuple[tuple[str, Kind], ...]  # status and body, of successes


class Body(NamedTuple):
    """An object that is sent or answered, or the values of a choice."""

    name: str
    said: str
    fields: tuple[Field, ...]
    values: tuple[str, ...]


@router.get(PATH)
def reference(request: Request, pages: PagesBehind, visitor: AnyVisitor) -> HTMLResponse:
    """Every operation of the API, and every body."""
    document = request.app.openapi()
    return show(
        pages,
        visitor,
        "reference.html",
        about=document["info"]["description"].split("\n\n"),
        tags=document["tags"],
        operations=tuple(operations(document)),
        bodies=tuple(bodies(document)),
    )


def operations(document: Described) -> Iterator[Operation]:
    """In the document's order."""
    for path, methods in document["paths"].items():
        for method, about in methods.items():
            yield Operation(
                f"{method.upper()} {path}",
                bool(about.get("security")),
                about["tags"][0],
                about.get("description", ""),
                tuple(
                    Field(each["name"], _kind(each["schema"]), each["required"], each.get("description", ""))
                    for each in about.get("parameters", ())
                ),
                _content(about.get("requestBody", {})),
                tuple((status, _content(each)) for status, each in about["responses"].items() if status < "3"),
            )


def bodies(document: Described) -> Iterator[Body]:
    """By name."""
    for name, schema in sorted(document["components"]["schemas"].items()):
        required = schema.get("required", ())
        fields = (
            Field(field, _kind(about), field in required, about.get("description", ""))
            for field, about in schema.get("properties", {}).items()
        )
        values = tuple(map(str, schema.get("enum", ())))
        yield Body(name, schema.get("description", ""), tuple(fields), values)


def _content(described: Described) -> Kind:
    """What a body is: an object of ours, or its media type."""
    for media, content in described.get("content", {}).items():
        schema = content.get("schema", {})
        return _kind(schema) if _kind(schema).words[0][1] else Kind(((media, False),))
    return Kind((("nothing", False),))


def _kind(schema: Described) -> Kind:
    if "$ref" in schema:
        return Kind(((schema["$ref"].rpartition("/")[2], True),))
    if choices := schema.get("anyOf", schema.get("oneOf")):
        first, *others = (_kind(each).words for each in choices)
        return Kind((*first, *(word for words in others for word in ((" or ", False), *words))))
    if schema.get("type") == "array":
        return Kind((("list of ", False), *_kind(schema.get("items", {})).words))
    return Kind(((str(schema.get("const", schema.get("type", "any"))), False),))
