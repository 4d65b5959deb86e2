"""`gradients miner`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gradients.cli.doctor import AsJson, Fix, examined
from gradients.cli.flags import DAEMON, FOLDER, Given, takes

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


@app.command()
@takes(DAEMON)
def doctor(
    given: Given,
    *,
    recipe: Annotated[Path | None, typer.Option(help="How to train: a file of configs/recipes/ or your own.")] = None,
    fix: Fix = False,
    as_json: AsJson = False,
) -> None:
    """Check everything that a miner with these settings needs, and say how to mend what is not in order.

    Name the same flags as for `run`. The exit code is 1 when something would keep it from its work.
    """
    from gradients.clock import SystemClock
    from miner.doctor import examine_miner
    from miner.settings import MinerSettings

    settings = given.load(MinerSettings, recipe=recipe)
    examined(lambda: examine_miner(settings, SystemClock()), fix=fix, as_json=as_json)


@app.command()
@takes(FOLDER)
def results(
    given: Given,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Show what became of every task: held-out result, rank, chance of being the best model, prize, share of the weights, and why.

    These are the validators' own words, as the miner has asked for them; name the same --config or --folder as where the miner runs.
    """
    from gradients.errors import SetupError
    from miner.journal import Journal
    from miner.results import as_json as shown
    from miner.results import results_table
    from miner.settings import MinerSettings

    folder = given.load(MinerSettings).folder / "tasks"
    if not folder.is_dir():
        raise SetupError(
            f"There is no miner's journal at {folder}", fix="Name the miner's --folder or --config, or start it first"
        )
    records = Journal(folder).all()
    if as_json:
        typer.echo(json.dumps({"tasks": [shown(record) for record in records]}))
        return
    from gradients.client.render import console

    console().print(results_table(records))
