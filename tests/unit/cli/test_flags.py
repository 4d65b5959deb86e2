"""The spellings of flags: btcli's of today, and those of bittensor 7 to 9's argument parsers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
import typer

from gradients.cli.flags import DAEMON, SUBNET, Given, settings_of, takes
from gradients.config import DaemonSettings
from gradients.domain.json import Json
from gradients.errors import SetupError

app = typer.Typer()

SPELLINGS: list[tuple[tuple[str, ...], str, dict[str, Json]]] = [
    (("--folder",), "/f", {"folder": "/f"}),
    (("-w", "--wallet", "--wallet-name", "--wallet.name"), "w", {"wallet": {"name": "w"}}),
    (("-H", "--wallet-hotkey", "--wallet.hotkey"), "h", {"wallet": {"hotkey": "h"}}),
    (("--wallet-path", "--wallet.path"), "/p", {"wallet": {"path": "/p"}}),
    (("-n", "--network", "--subtensor.network"), "test", {"chain": {"network": "test"}}),
    (("--subtensor.chain_endpoint",), "ws://10.0.0.1:9944", {"chain": {"network": "ws://10.0.0.1:9944"}}),
    (("--netuid",), "56", {"chain": {"netuid": 56}}),
    (("--axon-host", "--axon.ip"), "10.0.0.1", {"axon": {"host": "10.0.0.1"}}),
    (("--axon-port", "--axon.port"), "9000", {"axon": {"port": 9000}}),
    (("--external-ip", "--axon.external_ip"), "1.2.3.4", {"axon": {"external_ip": "1.2.3.4"}}),
    (("--external-port", "--axon.external_port"), "80", {"axon": {"external_port": 80}}),
    (("--log-style",), "json", {"log": {"style": "json"}}),
]


@app.command()
@takes(DAEMON)
def show(given: Given, seed: Annotated[int, typer.Option("--seed")] = 0) -> tuple[dict[str, Json], int]:
    """Show what was given."""
    return settings_of(**given.flags), seed


@app.command()
@takes(SUBNET)
def loaded(given: Given) -> DaemonSettings:
    """Load settings."""
    return given.load(DaemonSettings, log__style="json")


@pytest.mark.parametrize(("spellings", "value", "settings"), SPELLINGS, ids=[each[0][0] for each in SPELLINGS])
def test_every_spelling_sets_the_same(spellings: tuple[str, ...], value: str, settings: dict[str, Json]) -> None:
    for spelling in spellings:
        assert app(["show", spelling, value], standalone_mode=False) == (settings, 0)


@pytest.mark.parametrize("spelling", ["--debug", "--logging.debug"])
def test_debugging_is_a_switch(spelling: str) -> None:
    assert app(["show", spelling], standalone_mode=False) == ({"log": {"level": "debug"}}, 0)


def test_every_shared_flag_of_a_daemon_is_tried_here() -> None:
    tried = {name for _, _, settings in SPELLINGS for name in _names(settings)} | {"log__level"}
    assert tried == set(DAEMON)


def test_a_command_keeps_its_own_flags_beside_the_shared_ones() -> None:
    assert app(["show", "--seed", "7"], standalone_mode=False) == ({}, 7)


def test_given_flags_and_a_commands_own_ones_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[chain]\nnetuid = 2\nnetwork = "test"\n\n[log]\nstyle = "text"\n', encoding="utf-8")
    settings = app(["loaded", "--config", str(file), "--netuid", "3"], standalone_mode=False)
    assert (settings.chain.netuid, settings.chain.network, settings.log.style) == (3, "test", "json")


def test_a_flag_whose_value_no_setting_takes_names_the_setting() -> None:
    with pytest.raises(SetupError, match=r"chain\.netuid"):
        app(["loaded", "--netuid", "70000"], standalone_mode=False)


def _names(settings: dict[str, Json]) -> list[str]:
    return [
        f"{name}__{field}" if isinstance(value, dict) else name
        for name, value in settings.items()
        for field in (value if isinstance(value, dict) else [name])
    ]
