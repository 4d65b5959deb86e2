"""Where settings come from, and which source wins: defaults < file < BT_* < GRADIENTS_* < flags."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from gradients.cli.flags import settings_of
from gradients.config import BT_VARIABLES, CustomerSettings, shipped_configs
from gradients.errors import SetupError
from gradients.execution.job import Job
from gradients.execution.process import ProcessExecutor
from miner.plan import read_recipe
from miner.settings import MinerSettings
from validator.settings import ValidatorSettings

ROOT = Path(__file__).parents[3]
SHOW = """
import json, sys
from pathlib import Path
from miner.plan import read_recipe
from miner.settings import MinerSettings
file, flags = sys.argv[1], json.loads(sys.argv[2])
print(MinerSettings.load(Path(file) if file else None, flags).model_dump_json())
"""


def loaded(
    environment: Mapping[str, str] = MappingProxyType({}),
    *,
    file: Path | None = None,
    flags: Mapping[str, object] | None = None,
    cwd: Path | None = None,
) -> dict[str, Any]:  # JSON
    """A miner's settings as a process with exactly these variables, in this working directory, loads them."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GRADIENTS_", "BT_"))}
    run = subprocess.run(
        [sys.executable, "-c", SHOW, str(file or ""), json.dumps(flags or {})],
        env=clean | {"PYTHONPATH": str(ROOT)} | dict(environment),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    settings: dict[str, Any] = json.loads(run.stdout)
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
        ("[chain\n", "not valid TOML"),
    ],
    ids=["out of range", "misspelt", "unknown", "unknown type", "not TOML"],
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


def test_a_relative_path_from_any_source_is_absolute_once_it_is_read(tmp_path: Path) -> None:
    file = write(tmp_path, 'folder = "run/m1"\nrecipe = "mine.toml"\ncaches = "kept"\n\n[wallet]\npath = "keys"\n')
    places = {"folder": "run/m1", "recipe": "mine.toml", "caches": "kept", "wallet": {"path": "keys"}}
    variables = {
        "GRADIENTS_FOLDER": "run/m1",
        "GRADIENTS_RECIPE": "mine.toml",
        "GRADIENTS_CACHES": "kept",
        "BT_WALLET_PATH": "keys",
    }
    for settings in (
        loaded(file=file, cwd=tmp_path),
        loaded(variables, cwd=tmp_path),
        loaded(flags=places, cwd=tmp_path),
    ):
        read = [settings["folder"], settings["recipe"], settings["caches"], settings["wallet"]["path"]]
        assert read == [str(tmp_path / name) for name in ("run/m1", "mine.toml", "kept", "keys")]


@pytest.mark.parametrize("given", ["lora-tuned", "full-tuned"])
def test_a_recipe_by_name_is_the_shipped_one_wherever_the_command_starts(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    by_flag = MinerSettings.load(None, {"recipe": given})
    by_file = MinerSettings.load(write(tmp_path, f'recipe = "{given}"\n'), {})
    assert by_flag.recipe == by_file.recipe == shipped_configs() / "recipes" / f"{given}.toml"
    assert read_recipe(by_flag.recipe).name == given
    named_as_file = MinerSettings.load(None, {"recipe": f"sub/{given}"})
    assert named_as_file.recipe == tmp_path / "sub" / given


def test_a_recipe_that_nobody_ships_is_refused_with_the_names_of_those_that_are() -> None:
    with pytest.raises(SetupError, match=r"nobodys\.toml cannot be read") as caught:
        read_recipe(MinerSettings.load(None, {"recipe": "nobodys"}).recipe)
    assert "lora-tuned" in (caught.value.fix or "")


def test_a_home_folder_is_written_out(tmp_path: Path) -> None:
    settings = loaded({"HOME": str(tmp_path), "GRADIENTS_CACHES": "~/kept"})
    assert settings["caches"] == f"{tmp_path}/kept"
    assert settings["folder"] == f"{tmp_path}/.gradients/miner"
    assert settings["wallet"]["path"] == f"{tmp_path}/.bittensor/wallets"


def test_a_home_folder_that_nobody_has_is_a_setting_that_is_not_usable() -> None:
    with pytest.raises(SetupError, match=r"folder: .*the home folder in ~nobody-here/x is not known"):
        MinerSettings.load(None, {"folder": "~nobody-here/x"})


def test_a_customers_places_are_absolute_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = CustomerSettings(api_key_file=Path("api.key"), models=Path("models"))
    assert (settings.api_key_file, settings.models) == (tmp_path / "api.key", tmp_path / "models")


def test_the_ledger_lies_in_the_folder_wherever_a_later_command_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ValidatorSettings(folder=Path("run/val")).resolved_ledger_url() == f"sqlite:///{tmp_path}/run/val/ledger.db"


def test_a_worker_in_a_folder_of_its_own_finds_what_lies_in_a_relative_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = MinerSettings.load(None, settings_of(folder=Path("run/m1"))).folder
    folder.mkdir(parents=True)
    job = Job(
        function="gradients.testing.worker_functions:echo",
        arguments={"runs": str(folder / "runs")},
        folder=folder / "job",
        deadline_seconds=600,
    )
    asyncio.run(ProcessExecutor().run(job, report=lambda _: None))
    assert (tmp_path / "run" / "m1" / "runs").read_text() == "ran\n"
