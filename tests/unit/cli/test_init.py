"""`gradients init`: what it writes is what the daemon reads, and nothing is lost or guessed."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gradients.config import DaemonSettings
from gradients.domain.json import JsonObject
from miner.settings import MinerSettings
from validator.settings import ValidatorSettings

ROOT = Path(__file__).parents[3]
KINDS: dict[str, type[DaemonSettings]] = {"validator": ValidatorSettings, "miner": MinerSettings}
CHOSEN = ("-n", "test", "--netuid", "56", "-w", "own", "-H", "first", "--external-ip", "203.0.113.7")
roles = pytest.mark.parametrize("role", KINDS)


def init(
    home: Path, role: str, *flags: str, answers: str = "", variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`gradients init` of a user whose home is `home`, and who types `answers`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GRADIENTS_", "BT_"))}
    run = subprocess.run(
        [sys.executable, "-m", "gradients.cli", "init", role, *flags],
        env=clean | {"HOME": str(home), "PYTHONPATH": str(ROOT)} | (variables or {}),
        cwd=home,
        input=answers,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert "Traceback" not in run.stderr, run.stderr[-2000:]
    return run


@roles
def test_the_daemon_reads_what_was_chosen_and_defaults_for_the_rest(role: str, tmp_path: Path) -> None:
    run = init(tmp_path, role, *CHOSEN, "--folder", "place", "--json")
    file = tmp_path / "place" / "settings.toml"
    assert json.loads(run.stdout)["config"] == str(file)
    read = KINDS[role].load(file, {})
    flags: JsonObject = {
        "chain": {"network": "test", "netuid": 56},
        "wallet": {"name": "own", "hotkey": "first"},
        "axon": {"external_ip": "203.0.113.7"},
        "folder": str(tmp_path / "place"),
    }
    assert read.model_dump() == KINDS[role].load(None, flags).model_dump()
    written = {name: value for name, value in tomllib.loads(file.read_text()).items() if value}
    assert written == flags


@roles
def test_every_other_setting_stands_there_commented_out(role: str, tmp_path: Path) -> None:
    init(tmp_path, role, *CHOSEN, "--yes", "--config", "here.toml")
    text = (tmp_path / "here.toml").read_text()
    example = (ROOT / "configs" / f"{role}.toml").read_text()
    names = re.compile(r"^(?:# )?(\w+) =", flags=re.MULTILINE)
    assert names.findall(text) == names.findall(example)
    uncommented = re.sub(r"^# (\w+ = .+)$", r"\1", text, flags=re.MULTILINE)
    assert tomllib.loads(uncommented)["chain"]["refresh_seconds"] == 30.0


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    init(tmp_path, "miner", *CHOSEN, "--yes")
    file = tmp_path / ".gradients" / "miner" / "settings.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_the_next_three_commands_are_ones_that_there_are(tmp_path: Path) -> None:
    said = json.loads(init(tmp_path, "validator", *CHOSEN, "--json", "--config", "a b.toml").stdout)
    register, doctor, run = map(shlex.split, said["next"])
    assert register == ["gradients", "register", "-w", "own", "-H", "first", "-n", "test", "--netuid", "56"]
    assert doctor == ["gradients", "validator", "doctor", "-c", str(tmp_path / "a b.toml")]
    assert run == ["gradients", "validator", "run", "-c", str(tmp_path / "a b.toml")]


def test_a_file_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("# mine\n")
    run = init(tmp_path, "miner", *CHOSEN, "--yes", "--config", "mine.toml")
    assert (run.returncode, (tmp_path / "mine.toml").read_text()) == (1, "# mine\n")
    assert "is there already. Change it by hand, move it away, or name another: --config" in run.stderr


def test_without_questions_what_cannot_be_guessed_must_be_given(tmp_path: Path) -> None:
    run = init(tmp_path, "miner", "--yes", "-n", "finney")
    assert run.returncode == 1
    assert "There is no answer for --netuid" in run.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("-n", "finey"), "'finey' is not a network"),
        (("--external-ip", "my.host.invalid"), "is a name, and the chain takes addresses"),
        (("-w", "//Alice"), "is a development key, which everybody can make"),
        (("--axon-port", "123456"), "axon.port: Input should be less than or equal to 65535"),
    ],
)
def test_what_a_daemon_would_refuse_is_refused_before_it_is_written(
    flags: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    run = init(tmp_path, "validator", *CHOSEN, *flags, "--yes")
    assert run.returncode == 1
    assert said in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_person_is_asked_again_until_an_answer_can_be_meant(tmp_path: Path) -> None:
    answers = ["tset", "test", "x", "56", "own", "first", "0x1F9B", "9000", "localhost", "203.0.113.7", "place", ""]
    run = init(tmp_path, "miner", answers="".join(f"{each}\n" for each in answers))
    assert run.returncode == 0, run.stderr
    read = MinerSettings.load(tmp_path / "place" / "settings.toml", {})
    assert (read.chain.network, read.chain.netuid, read.wallet.name, read.axon.port) == ("test", 56, "own", 9000)
    assert read.axon.external_ip == "203.0.113.7"
    assert read.recipe.stem == "tuned"


def test_a_network_of_this_machine_needs_no_answers(tmp_path: Path) -> None:
    run = init(tmp_path, "miner", "-n", "ws://127.0.0.1:9944", "--recipe", "full-tuned", "--yes")
    assert (run.returncode, "wins over" in run.stderr) == (0, False)
    assert '\nrecipe = "full-tuned"\n' in (tmp_path / ".gradients" / "miner" / "settings.toml").read_text()
    read = MinerSettings.load(tmp_path / ".gradients" / "miner" / "settings.toml", {})
    assert (read.chain.netuid, read.axon.external_ip) == (1, "127.0.0.2")


def test_where_nobody_answers_nothing_is_written(tmp_path: Path) -> None:
    run = init(tmp_path, "miner", answers="test\n")
    assert run.returncode == 1
    assert "Nobody answered, and nothing was written. Give flags and --yes" in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_variables_answer_too_and_are_told_of_where_they_would_win(tmp_path: Path) -> None:
    variables = {"BT_NETWORK": "test", "BT_NETUID": "7", "GRADIENTS_CHAIN__NETUID": "8"}
    said = json.loads(init(tmp_path, "miner", "--external-ip", "203.0.113.7", "--json", variables=variables).stdout)
    assert MinerSettings.load(Path(said["config"]), {}).chain.netuid == 8
    other = init(tmp_path, "miner", *CHOSEN, "--json", "--config", "other.toml", variables=variables)
    assert "A variable of the environment wins over chain.netuid in the file" in json.loads(other.stdout)["warnings"]


def test_a_hotkey_that_is_not_there_is_told_of_with_the_command_that_makes_one(tmp_path: Path) -> None:
    (warning,) = json.loads(init(tmp_path, "miner", *CHOSEN, "--json").stdout)["warnings"]
    assert "`btcli wallet create -w own -H first` makes one" in warning
    (hotkeys := tmp_path / ".bittensor" / "wallets" / "own" / "hotkeys").mkdir(parents=True)
    (hotkeys.parent / "coldkey").touch()
    (warning,) = json.loads(init(tmp_path, "miner", *CHOSEN, "--json", "-c", "a.toml").stdout)["warnings"]
    assert "`btcli wallet new-hotkey -w own -H first` makes one" in warning
    (hotkeys / "first").write_text("{}")
    assert json.loads(init(tmp_path, "miner", *CHOSEN, "--json", "-c", "b.toml").stdout)["warnings"] == []
