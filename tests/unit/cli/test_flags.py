"""The spellings of flags: btcli's of today, and the older ones with dots."""

from __future__ import annotations

import pytest
import typer

from gradients.cli.flags import (
    AxonPort,
    ExternalIp,
    ExternalPort,
    Netuid,
    Network,
    WalletHotkey,
    WalletName,
    WalletPath,
    settings_of,
)
from gradients.domain.json import Json

app = typer.Typer()


@app.command()
def show(
    wallet: WalletName = None,
    hotkey: WalletHotkey = None,
    wallet_path: WalletPath = None,
    network: Network = None,
    netuid: Netuid = None,
    port: AxonPort = None,
    external_ip: ExternalIp = None,
    external_port: ExternalPort = None,
) -> dict[str, Json]:
    return settings_of(
        wallet__name=wallet,
        wallet__hotkey=hotkey,
        wallet__path=wallet_path,
        chain__network=network,
        chain__netuid=netuid,
        axon__port=port,
        axon__external_ip=external_ip,
        axon__external_port=external_port,
    )


@pytest.mark.parametrize(
    ("spellings", "value", "settings"),
    [
        (("-w", "--wallet", "--wallet-name", "--wallet.name"), "w", {"wallet": {"name": "w"}}),
        (("-H", "--wallet-hotkey", "--wallet.hotkey"), "h", {"wallet": {"hotkey": "h"}}),
        (("--wallet-path", "--wallet.path"), "/p", {"wallet": {"path": "/p"}}),
        (("-n", "--network", "--subtensor.network"), "test", {"chain": {"network": "test"}}),
        (("--subtensor.chain_endpoint",), "ws://10.0.0.1:9944", {"chain": {"network": "ws://10.0.0.1:9944"}}),
        (("--netuid",), "56", {"chain": {"netuid": 56}}),
        (("--axon-port", "--axon.port"), "9000", {"axon": {"port": 9000}}),
        (("--external-ip", "--axon.external_ip"), "1.2.3.4", {"axon": {"external_ip": "1.2.3.4"}}),
        (("--external-port", "--axon.external_port"), "80", {"axon": {"external_port": 80}}),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else "",
)
def test_every_spelling_sets_the_same(spellings: tuple[str, ...], value: str, settings: dict[str, Json]) -> None:
    for spelling in spellings:
        assert app([spelling, value], standalone_mode=False) == settings
