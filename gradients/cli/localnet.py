"""`gradients localnet`: the market on one machine."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from gradients.client.api import MarketClient
from gradients.client.delivery import bring
from gradients.client.shelf import Shelf
from gradients.config import CustomerSettings
from gradients.errors import GradientsError, SetupError, TaskInvalid
from gradients.files.locks import only_one
from gradients.localnet.market import Market
from gradients.localnet.plan import Options, Plan, plan_market
from gradients.localnet.report import contact_sheet, report
from gradients.localnet.screen import LiveScreen, PlainScreen
from gradients.localnet.snapshot import Snapshot
from gradients.localnet.supervisor import Supervisor
from gradients.tasks.registry import TYPES

DEFAULT_FOLDER = Path("~/.gradients/localnet")
EXIT_TERMINATED = 128 + signal.SIGTERM


def localnet(
    types: Annotated[str, typer.Option(help="Task types to post, separated by commas.")] = "instruct",
    tasks: Annotated[int, typer.Option(min=1, max=20, help="Tasks of each type.")] = 1,
    miners: Annotated[int, typer.Option(min=1, max=12, help="Miners; their recipes differ.")] = 3,
    seed: Annotated[int, typer.Option(help="Fixes every split and every training seed.")] = 0,
    hours: Annotated[float, typer.Option(min=0.005, max=48, help="Training budget of each miner.")] = 0.02,
    block_seconds: Annotated[float, typer.Option(min=0.1, max=12, help="Seconds from block to block.")] = 1.0,
    tempo: Annotated[int, typer.Option(min=4, max=360, help="Blocks from epoch to epoch.")] = 10,
    base: Annotated[str | None, typer.Option(help="Base model instead of the demo's: smollm2, a Hub id.")] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            help="Folder for chain, ledger, models and logs; by default ~/.gradients/localnet, emptied at every start."
        ),
    ] = None,
    stay: Annotated[
        bool, typer.Option("--stay", help="Keep chain, validator and miners up after the results, until Ctrl-C.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output at the end.")
    ] = False,
) -> None:
    """Run chain, validator and miners on this machine: a task is posted, trained, measured and paid.

    Every part is a process of its own; they talk over real sockets. Nothing leaves the machine.
    """
    names = tuple(name.strip() for name in types.split(",") if name.strip())
    unknown = [name for name in names if name not in TYPES]
    if unknown or not names:
        raise TaskInvalid(
            f"Unknown task types: {', '.join(unknown) or 'none given'}", fix=f"Choose from {', '.join(TYPES)}"
        )
    folder = (keep or DEFAULT_FOLDER).expanduser().resolve()
    options = Options(
        folder=folder,
        types=names,
        tasks=tasks,
        miners=miners,
        seed=seed,
        hours=hours,
        block_seconds=block_seconds,
        tempo_blocks=tempo,
        base=base,
    )
    with only_one(folder, what="localnet"):
        _empty(folder, ours=keep is None)
        plan = plan_market(options)
        typer.echo(f"To look with btcli: btcli query metagraph --netuid 1 --network {plan.chain_url}", err=True)
        key_file = plan.validator.folder / "api.key"
        typer.echo(f"To look with a browser: {plan.api_url}/ (sign in with the key in {key_file})", err=True)
        typer.echo(f"The miners' own pages: {', '.join(miner.page_url for miner in plan.miners)}", err=True)
        typer.echo(f"To check the validator: gradients audit {plan.api_url} --network {plan.chain_url}", err=True)
        try:
            asyncio.run(_run(plan, stay=stay, as_json=as_json))
        except GradientsError:
            typer.echo(f"The logs lie in {folder}", err=True)
            raise
        except asyncio.CancelledError:
            raise typer.Exit(EXIT_TERMINATED) from None


async def _run(plan: Plan, *, stay: bool, as_json: bool) -> None:
    """The market and its results, as a picture on a terminal and as lines elsewhere. SIGTERM takes it down as Ctrl-C does."""
    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    assert this is not None  # noqa: S101 (for the type checker: a coroutine that runs has its task)
    loop.add_signal_handler(signal.SIGTERM, this.cancel)
    live = sys.stderr.isatty() and not as_json
    async with Supervisor() as supervisor:
        with LiveScreen() if live else PlainScreen() as screen:
            snapshot = await Market.of(plan, supervisor, screen.show).run()
        _finish(plan, snapshot, as_json=as_json)
        if stay:
            typer.echo(
                f"The market stays up until Ctrl-C; its chain is {plan.chain_url}, its API {plan.api_url}", err=True
            )
            stop = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stop.set)
            await stop.wait()


def _finish(plan: Plan, snapshot: Snapshot, *, as_json: bool) -> None:
    """The last words: results, where the best models lie, how to talk to them."""
    shelf = Shelf(CustomerSettings().models)
    key = plan.validator.folder / "api.key"
    if not as_json:
        typer.echo()
    for task in snapshot.tasks:
        if task.best is None or task.best.repo is None:
            continue
        with MarketClient(plan.api_url, key.read_text(encoding="utf-8").strip()) as client:
            model = bring(client, task.id, shelf)
        if not as_json:
            typer.echo(f"The best model of {task.id} lies in {model}")
            typer.echo(f"Talk to it: gradients task chat {task.id}")
            if (sheet := contact_sheet(task, plan)) is not None:
                typer.echo(f"What everybody made of the held-out images: {sheet}")
    if as_json:
        typer.echo(json.dumps(report(snapshot, plan)))


def _empty(folder: Path, *, ours: bool) -> None:
    """Remove what an earlier run left; a folder that the user named must be empty already."""
    left = [path for path in folder.iterdir() if path.name != ".lock"]
    if left and not ours:
        raise SetupError(f"{folder} is not empty", fix="Name a new folder with --keep")
    for path in left:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
