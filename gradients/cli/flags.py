"""Command-line flags that the daemons share, and how they become settings.

Every flag has the spelling of btcli 11 (-w, --wallet, -H, --wallet-hotkey, --wallet-path, -n, --network) and those of older tools
(--wallet-name, --wallet.name, --subtensor.network …).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from gradients.domain.json import Json

Config = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file with settings; see configs/.")]
Folder = Annotated[Path | None, typer.Option("--folder", help="Where everything is kept.")]
WalletName = Annotated[
    str | None,
    typer.Option(
        "--wallet", "-w", "--wallet-name", "--wallet.name", help="Coldkey's name, as btcli knows it. [env: BT_WALLET]"
    ),
]
WalletHotkey = Annotated[
    str | None,
    typer.Option(
        "--wallet-hotkey", "-H", "--wallet.hotkey", help="Hotkey's name, as btcli knows it. [env: BT_WALLET_HOTKEY]"
    ),
]
WalletPath = Annotated[
    Path | None, typer.Option("--wallet-path", "--wallet.path", help="Folder of the wallets. [env: BT_WALLET_PATH]")
]
Network = Annotated[
    str | None,
    typer.Option(
        "--network",
        "-n",
        "--subtensor.network",
        "--subtensor.chain_endpoint",
        help="finney, test, local, or a ws:// URL. [env: BT_NETWORK]",
    ),
]
Netuid = Annotated[int | None, typer.Option("--netuid", help="The subnet's number. [env: BT_NETUID]")]
AxonHost = Annotated[str | None, typer.Option("--axon-host", help="Interface to listen on.")]
AxonPort = Annotated[int | None, typer.Option("--axon-port", "--axon.port", help="Port to listen on.")]
ExternalIp = Annotated[
    str | None, typer.Option("--external-ip", "--axon.external_ip", help="Public address to publish on chain.")
]
ExternalPort = Annotated[
    int | None,
    typer.Option(
        "--external-port", "--axon.external_port", help="Public port to publish on chain; by default the port."
    ),
]
LogStyle = Annotated[str | None, typer.Option("--log-style", help="text for people, json for machines.")]


def settings_of(**flags: Json | Path) -> dict[str, Json]:
    """Flags named "section__field" as nested settings; those that were not given are left out.

    settings_of(chain__netuid=3, folder=None) == {"chain": {"netuid": 3}}
    """
    nested: dict[str, Json] = {}
    for name, value in flags.items():
        if value is None:
            continue
        plain = str(value) if isinstance(value, Path) else value
        section, dot, field = name.partition("__")
        if not dot:
            nested[name] = plain
            continue
        inner = nested.setdefault(section, {})
        assert isinstance(inner, Mapping)  # noqa: S101 (sections and plain fields have different names)
        nested[section] = {**inner, field: plain}
    return nested
