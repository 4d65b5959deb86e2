"""`gradients miner`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradients.cli.flags import DAEMON, Given, takes

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def miner() -> None:
    """The reference miner: takes tasks, trains inside their time, commits and serves the model."""


@app.command()
@takes(DAEMON)
def run(
    given: Given,
    recipe: Annotated[Path | None, typer.Option(help="How to train: a file of configs/recipes/ or your own.")] = None,
) -> None:
    """Run a miner until it is stopped. Flags win over GRADIENTS_* variables, those over BT_*, those over the file."""
    from gradients.cli.daemon import run_daemon
    from miner.settings import MinerSettings

    settings = given.load(MinerSettings, recipe=recipe)

    async def daemon() -> None:
        # Imported once the settings are known to be good: chain and server take a second.
        from miner.daemon import run_until_signalled
        from miner.wiring import build

        await run_until_signalled(build(settings))

    run_daemon(settings, daemon, what="miner")
