"""The command line of the local chain."""

from __future__ import annotations

import asyncio
import json
import signal
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
from gradients.localchain.server import running
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
    data: Annotated[
        Path | None, typer.Option(help="Folder to keep the chain in; without it, the chain is lost at the end.")
    ] = None,
    host: Annotated[str, typer.Option(help="Interface to listen on.")] = "127.0.0.1",
    commit_reveal: Annotated[
        bool, typer.Option(help="Let subnet 1 of a new chain accept sealed weights only.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print where the chain listens as one line of JSON.")] = False,
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
        list[str],
        typer.Argument(metavar="ADDRESS[=TAO]", help="Accounts to fund, each with 1,000 TAO or with what it names."),
    ],
    network: Network = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Give accounts new TAO on a running local chain."""
    gifts = [_gift(account) for account in accounts]
    named = DaemonSettings.load(None, settings_of(chain__network=network)).chain.network
    url = local_endpoint() if named == "local" else named
    if not url.startswith(("ws://", "wss://")):
        raise SetupError(f"{url} is not a local chain", fix="Name one: --network local, or its ws:// URL")

    async def give() -> None:
        async with operating(url) as operator:
            for address, rao in gifts:
                await operator.fund(address, rao)

    asyncio.run(give())
    if json_:
        typer.echo(json.dumps([{"address": address, "rao": rao} for address, rao in gifts]))
        return
    for address, rao in gifts:
        typer.echo(f"{address} was given {Decimal(rao) / RAO_PER_TAO:,f} TAO")


def _gift(account: str) -> tuple[str, int]:
    """Address and rao of ADDRESS[=TAO]."""
    address, equals, tao = account.partition("=")
    try:
        from_address(address)
        rao = int(Decimal(tao) * RAO_PER_TAO) if equals else GIVEN_TAO * RAO_PER_TAO
    except (ValueError, ArithmeticError) as error:
        fix = "Write 5F…, or 5F…=2.5 for 2.5 TAO"
        raise SetupError(f"'{account}' is not ADDRESS or ADDRESS=TAO", fix=fix) from error
    if not 0 < rao <= MOST_RAO:
        raise SetupError(
            f"'{account}' asks for nothing, or for more than can exist", fix="Ask for up to 21,000,000 TAO"
        )
    return address, rao


def _settings(**values: object) -> LocalChainSettings:
    try:
        settings = LocalChainSettings.model_validate(values)
    except ValidationError as error:
        problems = []
        for each in error.errors():  # as `--block-seconds should be less than or equal to 60`
            option = str(each["loc"][0]).replace("_", "-")
            problems.append(f"--{option} {each['msg'].removeprefix('Input ')}")
        why = "; ".join(problems)
        raise SetupError(f"The local chain cannot run so: {why}", fix="See gradients localchain --help") from error
    if settings.data is not None:
        try:
            settings.data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = f"Could not make the folder {settings.data}: {error.strerror}"
            raise SetupError(problem, fix="Choose another --data") from error
    return settings


async def _run(settings: LocalChainSettings, *, as_json: bool) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with running(settings) as chain:
        if as_json:
            event = {"event": "listening", "url": chain.url, "genesis": chain.genesis, "block": chain.block}
            typer.echo(json.dumps(event))
        else:
            where = f"{chain.url} (genesis {chain.genesis[:10]}, block {chain.block})"
            typer.echo(f"A local chain listens on {where}. Ctrl+C stops it.")
        await chain.wait(stop)
