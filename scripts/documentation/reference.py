"""The pages of reference: commands, settings and the API, as the code describes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import typer

from gradients.cli.main import SUBCOMMANDS, build
from gradients.cli.settings_example import example
from miner.settings import MinerSettings
from validator.api.app import api_app
from validator.api.dependencies import Dependencies
from validator.settings import ValidatorSettings

WIDTH = 100
Described = Mapping[str, Any]  # a part of an OpenAPI document, which is JSON of many forms


def commands() -> str:
    """A page with the help of every command."""
    parts = ["# Commands", "What `--help` of each says."]
    for name in SUBCOMMANDS:
        root = cast(Any, typer.main.get_command(build([name])))
        parts += _helps(root.commands[name], f"gradients {name}")
    return "\n\n".join(parts) + "\n"


def _helps(command: Any, path: str) -> Iterator[str]:  # noqa: ANN401 (typer's commands have no public type)
    """A command's help and that of its subcommands."""
    context = command.context_class(command, info_name=path, terminal_width=WIDTH, max_content_width=WIDTH)
    yield f"## {path}"
    yield f"```text\n{command.get_help(context).strip()}\n```"
    for name, each in getattr(command, "commands", {}).items():
        yield from _helps(each, f"{path} {name}")


def settings() -> str:
    """A page with every setting of both daemons, its default and its meaning."""
    parts = ["# Settings", "Order, variables and files: [configs](../configs/README.md)."]
    for command, kind in (("validator", ValidatorSettings), ("miner", MinerSettings)):
        parts += [f"## gradients {command} run", f"```toml\n{example(kind, command=command)}```"]
    return "\n\n".join(parts) + "\n"


def api() -> str:
    """A page with every route of the validator's API, and every body."""
    document = api_app(cast(Dependencies, None)).openapi()  # described only, so that it depends on nothing
    parts = [
        "# API",
        "The same stands at `/openapi.json` of every validator, as an OpenAPI document. A route marked *key* wants the header "
        "`Authorization: Bearer <key>`; any answer that is not a success is a [Refusal](#refusal), with a code of "
        "[troubleshooting](../docs/errors.md).",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts += _operation(f"{method.upper()} {path}", operation)
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts += [f"## {name}", schema.get("description", ""), _fields(schema)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _operation(name: str, operation: Described) -> Iterator[str]:
    """What a route does, takes and answers."""
    yield f"## {name}"
    yield ("*key* · " if operation.get("security") else "") + str(operation.get("description", "")).strip()
    for parameter in operation.get("parameters", ()):
        yield f"- `{parameter['name']}` ({parameter['in']}): {parameter.get('description', '')}"
    if body := operation.get("requestBody"):
        yield f"Takes {_content(body)}."
    answers = (f"{status} {_content(answer)}" for status, answer in operation["responses"].items() if status < "3")
    yield f"Answers {', '.join(answers)}."


def _content(described: Described) -> str:
    """What a body is: a schema of ours, or its media type."""
    for media, content in described.get("content", {}).items():
        schema = content.get("schema", {})
        return _kind(schema) if "$ref" in schema else f"`{media}`"
    return "nothing"


def _fields(schema: Described) -> str:
    """A table of an object's fields, or the values of an enumeration."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    required = schema.get("required", ())
    rows = [
        f"| `{name}` | {_kind(field)} | {'yes' if name in required else ''} | {_cell(field.get('description', ''))} |"
        for name, field in schema.get("properties", {}).items()
    ]
    return "\n".join(["| field | type | required | what |", "|---|---|---|---|", *rows]) if rows else "Any JSON."


def _kind(field: Described) -> str:
    """A field's type, with a link where it is a body of ours."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if choices := field.get("anyOf", field.get("oneOf")):
        return " or ".join(map(_kind, choices))
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}))}"
    return str(field.get("type", "any"))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
