"""`gradients repo`: look at a model repo as a validator would."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def repo() -> None:
    """Look at a model repo as a validator would."""


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="The repo: an adapter, a full model, or a LoRA of an image model.")],
    base: Annotated[str, typer.Option(help="The base that it was trained from: a name, a Hub id, or a folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Say whether a validator could measure the repo, and if not, which rule it breaks; exit code 1 then.

    The files are screened and read exactly as a validator does it after the deadline, when it is too late to mend them. No row is
    measured: how good the model is, only the held-out rows tell.
    """
    from gradients.bases.bases import BaseModels
    from gradients.client.repo_check import check_folder
    from gradients.config import device_environment
    from gradients.execution.process import ProcessExecutor

    found = BaseModels.default(folders=True).resolve(base)
    verdict = asyncio.run(check_folder(folder.absolute(), found, ProcessExecutor(environment=device_environment())))
    if as_json:
        typer.echo(json.dumps({"fits": True, **asdict(verdict)}))
        return
    size = f"{verdict.files} files, {verdict.size_bytes:,} bytes"
    typer.echo(f"The repo can be measured: kind {verdict.kind}, {size}; it changes {verdict.changed} weights of {base}")
