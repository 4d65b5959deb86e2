"""`gradients record`: copy a validator's public record."""

from __future__ import annotations

import json
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def record() -> None:
    """Copy a validator's public record."""


@app.command()
def export(
    place: Annotated[str, typer.Option("--from", help="A validator's API, or a folder that holds a copy.")],
    target: Annotated[str, typer.Option("--to", help="A folder, or s3://bucket/prefix with the settings of boto3.")],
    models: Annotated[bool, typer.Option("--models/--no-models", help="Also the files of open submissions.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Copy what is new, so that a record stays where nobody can change it. `gradients audit` reads a copy in a folder."""
    from gradients.record.exporting import export as copy
    from gradients.record.exporting import open_target
    from gradients.record.reading import HttpSource, open_source

    source = open_source(place)
    try:
        count = copy(source, open_target(target), models=models)
    finally:
        if isinstance(source, HttpSource):
            source.close()
    typer.echo(json.dumps({"records": count}) if as_json else f"{count} new records are in {target}")
