"""`gradients validator`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from gradients.cli.flags import (
    AxonHost,
    AxonPort,
    Config,
    ExternalIp,
    ExternalPort,
    Folder,
    LogStyle,
    Netuid,
    Network,
    WalletHotkey,
    WalletName,
    WalletPath,
    settings_of,
)

if TYPE_CHECKING:
    from validator.settings import ValidatorSettings

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def validator() -> None:
    """Post tasks to miners, measure what they trained on held-out data, and set weights on chain."""


@app.command()
def run(
    config: Config = None,
    folder: Folder = None,
    wallet: WalletName = None,
    hotkey: WalletHotkey = None,
    wallet_path: WalletPath = None,
    network: Network = None,
    netuid: Netuid = None,
    host: AxonHost = None,
    port: AxonPort = None,
    external_ip: ExternalIp = None,
    external_port: ExternalPort = None,
    api_host: Annotated[str | None, typer.Option(help="Interface of the customers' API.")] = None,
    api_port: Annotated[int | None, typer.Option(help="Port of the customers' API.")] = None,
    log_style: LogStyle = None,
) -> None:
    """Run a validator until it is stopped. Flags win over GRADIENTS_* variables, those over BT_*, those over the file."""
    from gradients.files.locks import only_one
    from gradients.log import configure_logging
    from validator.settings import ValidatorSettings

    flags = settings_of(
        folder=folder,
        wallet__name=wallet,
        wallet__hotkey=hotkey,
        wallet__path=wallet_path,
        chain__network=network,
        chain__netuid=netuid,
        axon__host=host,
        axon__port=port,
        axon__external_ip=external_ip,
        axon__external_port=external_port,
        api__host=api_host,
        api__port=api_port,
        log__style=log_style,
    )
    settings = ValidatorSettings.load(config, flags)
    configure_logging(style=settings.log.style, level=settings.log.level)

    with only_one(settings.folder, what="validator"):
        _run(settings)


def _run(settings: ValidatorSettings) -> None:
    """The daemon. Imported once the settings are known to be good: chain, ledger and server take a second."""
    import asyncio

    from validator.daemon import run_until_signalled
    from validator.wiring import build

    async def main() -> None:
        await run_until_signalled(build(settings))

    asyncio.run(main())


@app.command()
def key(
    customer: Annotated[str, typer.Argument(help="Whose key it is; any name.")],
    config: Config = None,
    folder: Folder = None,
    revoke: Annotated[str | None, typer.Option(help="Make this key useless instead of making a new one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Make an API key for a customer. It is shown once and kept as a digest."""
    from gradients.clock import SystemClock
    from gradients.errors import SetupError
    from validator.ledger import Ledger
    from validator.settings import ValidatorSettings

    settings = ValidatorSettings.load(config, settings_of(folder=folder))
    customers = Ledger.open(settings.resolved_ledger_url(), SystemClock()).customers
    if revoke is None:
        made = customers.issue(customer)
        typer.echo(json.dumps({"customer": customer, "key": made}) if as_json else made)
    elif customers.revoke(revoke):
        typer.echo(json.dumps({"customer": customer, "revoked": True}) if as_json else "The key opens nothing any more")
    else:
        raise SetupError("There is no such key", fix="Give the whole key as it was shown")
