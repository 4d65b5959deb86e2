"""`python -m gradients.localchain`: the local chain by itself, for scripts; it announces itself as JSON."""

from __future__ import annotations

import sys

import typer

from gradients.errors import GradientsError
from gradients.localchain.cli import localchain

app = typer.Typer(add_completion=False)
app.command()(localchain)

if __name__ == "__main__":
    try:
        app(args=[*sys.argv[1:], "--json"], prog_name="python -m gradients.localchain")
    except GradientsError as error:
        sys.exit(str(error))
