"""What the customers' commands know of a task that is to be posted: from flags, and from a file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from gradients.domain.json import Json
from gradients.errors import SetupError, TaskInvalid

Type = Annotated[str | None, typer.Option("--type", help="Kind of fine-tuning, such as instruct.")]
Base = Annotated[str | None, typer.Option(help="nano-lm, smollm2, a Hub id (org/name@revision).")]
Continues = Annotated[
    str | None, typer.Option(help="In place of a base: a scored task of yours whose best model is trained further.")
]
Dataset = Annotated[
    list[str] | None,
    typer.Option(
        help="A JSON, JSONL, CSV, Parquet or zip file, a folder of images or one that `datasets` saved, "
        "hub:org/name@revision#split, an https:// URL, or s3://bucket/key. May be repeated: then they are merged, and each may be "
        '\'{"dataset": …, "columns": {…}, "limit": …, "weight": …}\'.'
    ),
]
Spec = Annotated[
    Path | None, typer.Option("--spec", help="The whole task as a TOML or JSON file; options given here win.")
]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--set", help="A parameter of the task type, such as columns.output=answer; may be repeated."),
]


def dataset_of(given: Sequence[str] | None) -> Json:
    """What --dataset says: a source, or a list of several that are merged; None where it was not given."""
    from gradients.datasets.sources import sources_from

    return sources_from(given) if given else None


def task_spec(spec_file: Path | None, parameters: Sequence[str] | None, **given: Json) -> dict[str, Json]:
    """The spec of the file, with what was given beside it."""
    spec: dict[str, Json] = {
        **(_read_spec(spec_file) if spec_file else {}),
        **{k: v for k, v in given.items() if v is not None},
    }
    for assignment in parameters or []:
        known = spec.get("parameters", {})
        if not isinstance(known, Mapping):
            raise TaskInvalid(
                f"`parameters` in {spec_file} is not a table", fix="Write the type's parameters there by name"
            )
        spec["parameters"] = _assigned(known, assignment)
    try:
        json.dumps(spec, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TaskInvalid(
            f"The task has a value that JSON cannot express: {error}", fix="Use texts, numbers and lists"
        ) from error
    return spec


def _read_spec(file: Path) -> dict[str, Json]:
    try:
        text = file.read_text(encoding="utf-8")
        spec: object = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise SetupError(f"The task file {file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise TaskInvalid(f"{file} is not valid {file.suffix.lstrip('.').upper()}: {error}") from error
    if not isinstance(spec, dict):
        raise TaskInvalid(f"{file} does not hold a task", fix='Write one object: {"type": …, "base": …, "dataset": …}')
    return spec


def _assigned(parameters: Mapping[str, Json], assignment: str) -> dict[str, Json]:
    """`parameters` with "a.b=value" put in; the value is JSON where it reads as such, else text."""
    path, equals, text = assignment.partition("=")
    if not equals:
        raise TaskInvalid(f"--set {assignment} has no value", fix="Write it as name=value")
    try:
        value: Json = json.loads(text)
    except ValueError:
        value = text
    head, _, rest = path.partition(".")
    if not rest:
        return {**parameters, head: value}
    inner = parameters.get(head, {})
    return {**parameters, head: _assigned(inner if isinstance(inner, Mapping) else {}, f"{rest}={text}")}
