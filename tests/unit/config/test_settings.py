"""Where settings come from, and which source wins: defaults < file < BT_* < GRADIENTS_* < flags."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from gradients.cli.flags import settings_of
from gradients.config import BT_VARIABLES, CustomerSettings
from gradients.errors import SetupError
from miner.settings import MinerSettings
from validator.settings import ValidatorSettings

SHOW = """
import json, sys
from pathlib import Path
from miner.settings import MinerSettings
file, flags = sys.argv[1], json.loads(sys.argv[2])
print(MinerSettings.load(Path(file) if file else None, flags).model_dump_json())
"""


def loaded(
    environment: Mapping[str, str] = MappingProxyType({}),
    *,
    file: Path | None = None,
    flags: Mapping[str, object] | None = None,
) -> dict[str, dict[str, object]]:
    """A miner's settings as a process with exactly these variables loads them."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GRADIENTS_", "BT_"))}
    run = subprocess.run(
        [sys.executable, "-c", SHOW, str(file or ""), json.dumps(flags or {})],
        env=clean | dict(environment),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    settings: dict[str, dict[str, object]] = json.loads(run.stdout)
    return settings


def write(folder: Path, text: str) -> Path:
    file = folder / "settings.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_each_source_wins_over_the_one_before(tmp_path: Path) -> None:
    file = write(tmp_path, "[chain]\nnetuid = 2\n")
    sources: list[tuple[dict[str, object], dict[str, str], int]] = [
        ({}, {}, 2),
        ({}, {"BT_NETUID": "3"}, 3),
        ({}, {"BT_NETUID": "3", "GRADIENTS_CHAIN__NETUID": "4"}, 4),
        ({"chain": {"netuid": 5}}, {"BT_NETUID": "3", "GRADIENTS_CHAIN__NETUID": "4"}, 5),
    ]
    assert loaded()["chain"]["netuid"] == 1
    for flags, environment, netuid in sources:
        assert loaded(environment, file=file, flags=flags)["chain"]["netuid"] == netuid


def test_sources_are_mixed_field_by_field(tmp_path: Path) -> None:
    file = write(tmp_path, '[wallet]\nname = "from-file"\nhotkey = "from-file"\n')
    settings = loaded({"BT_WALLET_HOTKEY": "from-bt"}, file=file, flags={"wallet": {"path": "/from/flag"}})
    assert settings["wallet"] == {"name": "from-file", "hotkey": "from-bt", "path": "/from/flag"}


def test_every_variable_of_btcli_is_honoured() -> None:
    values = {"BT_NETWORK": "test", "BT_NETUID": "7", "BT_WALLET": "w", "BT_WALLET_HOTKEY": "h", "BT_WALLET_PATH": "/p"}
    assert set(values) == set(BT_VARIABLES)
    settings = loaded(values)
    assert (settings["chain"]["network"], settings["chain"]["netuid"]) == ("test", 7)
    assert settings["wallet"] == {"name": "w", "hotkey": "h", "path": "/p"}


def test_an_empty_variable_counts_as_none() -> None:
    assert loaded({"BT_WALLET": "", "GRADIENTS_CHAIN__NETWORK": ""})["wallet"]["name"] == "default"


def test_flags_become_nested_settings_and_absent_ones_are_left_out() -> None:
    flags = settings_of(folder=Path("/x"), chain__netuid=3, chain__network="test", axon__port=None)
    assert flags == {"folder": "/x", "chain": {"netuid": 3, "network": "test"}}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[chain]\nnetuid = -1\n", "chain.netuid"),
        ("[chain]\nnet_uid = 1\n", "chain.net_uid"),
        ("colour = 'red'\n", "colour"),
        ("task_types = ['knitting']\n", "there is no task type 'knitting'"),
        ("[chain\n", "no valid TOML"),
    ],
    ids=["out of range", "misspelt", "unknown", "unknown type", "no TOML"],
)
def test_a_settings_file_that_is_not_usable_names_file_and_field(tmp_path: Path, text: str, named: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(SetupError, match=named) as caught:
        MinerSettings.load(file, {})
    assert str(file) in caught.value.message


def test_a_settings_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"none\.toml"):
        ValidatorSettings.load(tmp_path / "none.toml", {})


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        MinerSettings().threads = 5


def test_a_customers_flags_win() -> None:
    assert CustomerSettings().given(url="http://here", key=None).api_url == "http://here"
