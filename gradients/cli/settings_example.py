"""Writes a settings file from a settings model: every field with its description and default, commented out unless it is given.

`python -m gradients.cli.settings_example miner.settings:MinerSettings > configs/miner.toml`.
A test compares the files with what this writes.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from gradients.config import shipped_configs
from gradients.domain.json import Json, JsonObject

HEAD = """\
# Every setting of `gradients {command} run` with its default. Copy the file, uncomment what you change, and name it with --config.
# Later wins: defaults < this file < BT_* variables < GRADIENTS_* variables (GRADIENTS_CHAIN__NETUID) < flags.
"""


def example(
    settings: type[BaseSettings], *, command: str, head: str = HEAD, given: JsonObject = MappingProxyType({})
) -> str:
    """The text of a settings file: plain fields first, as TOML wants it, then the groups of settings.

    Args:
        given: what is not commented out, nested as in the file.
    """
    lines = [head.format(command=command)]
    sections: list[str] = []
    for name, field in settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            inside = given.get(name, {})
            assert isinstance(inside, Mapping)  # noqa: S101 (a section holds fields)
            sections.append(f"[{name}]")
            sections += (line for key, inner in kind.model_fields.items() for line in _field(key, inner, inside))
        else:
            lines += _field(name, field, given)
    return "\n".join([*lines, *sections]).rstrip() + "\n"


def _field(name: str, field: FieldInfo, given: Mapping[str, Json]) -> Iterator[str]:
    if field.description:
        yield f"# {field.description}"
    if name in given:
        yield f"{name} = {_toml(given[name])}"
    else:
        yield f"# {name} = {_toml(field.get_default(call_default_factory=True))}".rstrip()
    yield ""


def _toml(value: object) -> str:
    """A default as TOML writes it; nothing for one that is not set. JSON's strings, numbers and booleans are TOML's too."""
    if value is None:
        return ""
    if isinstance(value, BaseModel):
        return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, Path):
        root = shipped_configs().parent
        return json.dumps(str(value.relative_to(root) if value.is_relative_to(root) else value))
    return json.dumps(value, ensure_ascii=False)  # JSON's way to write what is beyond 16 bits is not TOML's


def main(target: str) -> None:
    """Print the example of "module:Class"."""
    module, name = target.split(":")
    sys.stdout.write(example(getattr(importlib.import_module(module), name), command=module.partition(".")[0]))


if __name__ == "__main__":
    main(sys.argv[1])
