"""The customers' commands on uploads. Part of `gradients task`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gradients.cli.customer import AsJson, Key, Url, market


def upload(
    file: Annotated[Path, typer.Argument(help="A file with rows, or a folder of images or of what `datasets` saved.")],
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Upload rows; what is printed is the name to use as a task's data set. `gradients task submit` does it by itself.

    A large file goes in pieces: when the connection breaks it goes on where it stood, and so does the same command within a day.
    """
    with market(url, key) as client:
        dataset = client.upload(file)
    typer.echo(json.dumps({"dataset": dataset}) if as_json else dataset)


def uploads(
    drop: Annotated[str | None, typer.Option(help="Give the upload with this id up, and its room free.")] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Your uploads in pieces, newest first: how far each is, and for a while what those that are whole are called."""
    with market(url, key) as client:
        if drop is not None:
            client.drop_upload(drop)
        found = client.uploads()
    if as_json:
        typer.echo(json.dumps([each.model_dump(mode="json") for each in found]))
        return
    from gradients.texts import harmless

    for each in found:
        state = each.dataset or f"{each.offset:,} of {each.size_bytes:,} bytes"
        typer.echo(f"{each.id}  {harmless(each.file_name)}  {state}")
