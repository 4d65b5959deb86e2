"""The command line of the local chain."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from gradients.cli.flags import Network, settings_of
from gradients.config import DaemonSettings, local_endpoint
from gradients.errors import SetupError
from gradients.localchain.keys import from_address
from gradients.localchain.operator import RAO_PER_TAO, operating
from gradients.localchain.server import Running, running
from gradients.localchain.settings import LocalChainSettings
from gradients.log import configure_logging

app = typer.Typer(rich_markup_mode=None)
GIVEN_TAO = 1000
MOST_RAO = 21_000_000 * RAO_PER_TAO


@app.callback(invoke_without_command=True)
def localchain(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 9944,
    block_seconds: Annotated[float, typer.Option(help="Seconds between two blocks, 0.02 to 60.")] = 1.0,
    tempo: Annotated[int, typer.Option(help="Blocks per epoch of subnet 1 of a new chain, 1 to 50400.")] = 20,
    data: Annotated[Path | None, typer.Option(help="Folder to keep the chain in; in memory without.")] = None,
    host: Annotated[str, typer.Option(help="Interface to listen on.")] = "127.0.0.1",
    commit_reveal: Annotated[bool, typer.Option(help="Let subnet 1 of a new chain take sealed weights only.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Say where the chain listens as one line of JSON.")] = False,
) -> None:
    """Run a loopback subtensor that the Bittensor SDK and btcli connect to."""
    if context.invoked_subcommand is not None:
        return
    configure_logging(style="json" if json_ else "text", level="info")
    settings = _settings(
        host=host, port=port, block_seconds=block_seconds, tempo=tempo, data=data, commit_reveal=commit_reveal
    )
    asyncio.run(_run(settings, as_json=json_))


@app.command()
def fund(
    accounts: Annotated[
        list[str], typer.Argument(metavar="ADDRESS[=TAO]...", help="Who gets it; 1,000 TAO each unless it says more.")
    ],
    network: Network = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Give accounts TAO out of nothing, on a local chain that runs."""
    gifts = [_gift(account) for account in accounts]
    named = DaemonSettings.load(None, settings_of(chain__network=network)).chain.network
    asyncio.run(_fund(local_endpoint() if named == "local" else named, gifts))
    if json_:
        typer.echo(json.dumps([{"address": address, "rao": rao} for address, rao in gifts]))
        return
    for address, rao in gifts:
        typer.echo(f"{address} was given {rao / RAO_PER_TAO:,g} TAO")


def _gift(account: str) -> tuple[str, int]:
    """Address and rao of ADDRESS[=TAO]."""
    address, equals, tao = account.partition("=")
    try:
        from_address(address)
        rao = int(Decimal(tao) * RAO_PER_TAO) if equals else GIVEN_TAO * RAO_PER_TAO
    except (ValueError, ArithmeticError) as error:
        raise SetupError(f"'{account}' is no address, or no sum", fix="Write 5F…, or 5F…=2.5 for 2.5 TAO") from error
    if not 0 < rao <= MOST_RAO:
        raise SetupError(
            f"'{account}' asks for nothing, or for more than there can be", fix="Ask for up to 21,000,000 TAO"
        )
    return address, rao


async def _fund(url: str, gifts: list[tuple[str, int]]) -> None:
    if not url.startswith(("ws://", "wss://")):
        raise SetupError(f"{url} gives nothing away", fix="Name a local chain: --network local, or its ws:// URL")
    async with operating(url) as operator:
        for address, rao in gifts:
            await operator.fund(address, rao)


def _settings(**values: object) -> LocalChainSettings:
    try:
        settings = LocalChainSettings.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_problem(str(each["loc"][0]), each["msg"]) for each in error.errors())
        raise SetupError(f"The local chain cannot run so: {problems}", fix="See gradients localchain --help") from error
    if settings.data is not None:
        try:
            settings.data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = f"Could not make the folder {settings.data}: {error.strerror}"
            raise SetupError(problem, fix="Choose another --data") from error
    return settings


def _problem(setting: str, message: str) -> str:
    """What is wrong with an option: `--block-seconds should be less than or equal to 60`."""
    return f"--{setting.replace('_', '-')} {message.removeprefix('Input ')}"


async def _run(settings: LocalChainSettings, *, as_json: bool) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with running(settings) as chain:
        sys.stdout.write(_announcement(chain, as_json=as_json))
        sys.stdout.flush()
        await chain.wait(stop)


def _announcement(chain: Running, *, as_json: bool) -> str:
    if as_json:
        return (
            json.dumps({"event": "listening", "url": chain.url, "genesis": chain.genesis, "block": chain.block}) + "\n"
        )
    return (
        f"A local chain listens on {chain.url} (genesis {chain.genesis[:10]}, block {chain.block}). Ctrl+C stops it.\n"
    )
