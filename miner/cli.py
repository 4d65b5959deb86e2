"""`gradients miner`."""

from __future__ import annotations

from pathlib import Path
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
    from miner.settings import MinerSettings

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def miner() -> None:
    """The reference miner: takes tasks, trains inside their time, commits and serves the model."""


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
    recipe: Annotated[Path | None, typer.Option(help="How to train: a file of configs/recipes/ or your own.")] = None,
    log_style: LogStyle = None,
) -> None:
    """Run a miner until it is stopped. Flags win over GRADIENTS_* variables, those over BT_*, those over the file."""
    from gradients.files.locks import only_one
    from gradients.log import configure_logging
    from miner.settings import MinerSettings

    flags = settings_of(
        folder=folder,
        recipe=recipe,
        wallet__name=wallet,
        wallet__hotkey=hotkey,
        wallet__path=wallet_path,
        chain__network=network,
        chain__netuid=netuid,
        axon__host=host,
        axon__port=port,
        axon__external_ip=external_ip,
        axon__external_port=external_port,
        log__style=log_style,
    )
    settings = MinerSettings.load(config, flags)
    configure_logging(style=settings.log.style, level=settings.log.level)

    with only_one(settings.folder, what="miner"):
        _run(settings)


def _run(settings: MinerSettings) -> None:
    """The daemon. Imported once the settings are known to be good: chain and server take a second."""
    import asyncio

    from miner.daemon import run_until_signalled
    from miner.wiring import build

    async def main() -> None:
        await run_until_signalled(build(settings))

    asyncio.run(main())
