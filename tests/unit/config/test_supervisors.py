"""What keeps daemons alive: units of systemd and a file of pm2, as those programs read them; and what machines are asked for."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from gradients.doctor.storage import LEAST_FREE_GIB

ROOT = Path(__file__).parents[3]
UNITS = ROOT / "configs" / "systemd"
PROGRAM = "/opt/gradients/.venv/bin/gradients"
ROLES = ("validator", "miner")
roles = pytest.mark.parametrize("role", ROLES)


def needs(program: str) -> str:
    """Where the program is; the test is skipped without it: these belong to a machine's system, and nothing here installs them."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def unit(name: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / name)
    return parser


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as on a machine, one instance of each template among them, with a program that is there."""
    for file in UNITS.iterdir():
        text = file.read_text().replace(PROGRAM, "/bin/true")
        (tmp_path / file.name.replace("@.", "@validator.")).write_text(text)
    return tmp_path


def test_systemd_has_nothing_to_say_of_the_units(installed: Path) -> None:
    names = sorted(file for file in installed.iterdir() if file.suffix in (".service", ".timer"))
    run = subprocess.run(
        [needs("systemd-analyze"), "verify", "--man=no", *names],
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{installed}:"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    about_ours = [line for line in run.stderr.splitlines() if "gradients" in line]
    assert (run.returncode, about_ours) == (0, [])
    assert len(names) == 4


@pytest.mark.parametrize(
    ("name", "most"), [*((f"gradients-{role}", 3.5) for role in ROLES), ("gradients-backup@validator", 2.0)]
)
def test_what_a_unit_exposes_is_little(name: str, most: float, installed: Path) -> None:
    """systemd's own scale, 0 to 10; the daemons' workers need namespaces and a /proc of their own, which the backup does not."""
    command = [needs("systemd-analyze"), "security", "--offline=true", str(installed / f"{name}.service")]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    found = re.search(r"exposure level for .+: ([\d.]+)", run.stdout)
    assert found is not None
    assert float(found[1]) <= most


@roles
def test_a_unit_runs_what_the_command_line_takes(role: str) -> None:
    program, *arguments = shlex.split(unit(f"gradients-{role}.service")["Service"]["ExecStart"])
    assert program == PROGRAM
    run = subprocess.run(
        [sys.executable, "-m", "gradients.cli", *arguments], capture_output=True, text=True, check=False, timeout=600
    )
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith(f"gradients: There is no settings file /etc/gradients/{role}.toml")


@roles
def test_a_unit_starts_again_for_ever_and_soon_and_lets_workers_die_alone(role: str) -> None:
    service = unit(f"gradients-{role}.service")
    assert service["Unit"]["StartLimitIntervalSec"] == "0"
    rules = {name: service["Service"][name] for name in ("Restart", "RestartSec", "KillMode", "OOMPolicy")}
    assert rules == {"Restart": "always", "RestartSec": "1", "KillMode": "mixed", "OOMPolicy": "continue"}


@roles
def test_a_unit_leaves_the_sandbox_what_it_needs_and_others_nothing(role: str) -> None:
    service = unit(f"gradients-{role}.service")["Service"]
    masks_proc = {
        "ProtectKernelTunables",
        "ProtectKernelLogs",
        "ProtectProc",
        "ProcSubset",
        "RestrictNamespaces",
        "PrivateDevices",
    }
    assert not masks_proc & set(service)
    assert {"@system-service", "@mount", "seccomp", "sethostname"} <= set(service["SystemCallFilter"].split())
    assert (service["UMask"], service["StateDirectoryMode"], service["NoNewPrivileges"]) == ("0077", "0700", "yes")
    assert service["CapabilityBoundingSet"] == ""


def test_the_backup_of_a_unit_is_a_command_that_there_is() -> None:
    _, _, script = shlex.split(unit("gradients-backup@.service")["Service"]["ExecStart"])
    words = shlex.split(script.replace("$$(", "$(").replace("%i", "miner"))
    assert words[:3] == ["exec", PROGRAM, "backup"]
    run = subprocess.run(
        [sys.executable, "-m", "gradients.cli", *words[2:]], capture_output=True, text=True, check=False, timeout=600
    )
    assert run.stderr.startswith("gradients: There is no settings file /etc/gradients/miner.toml"), run.stderr


@roles
def test_pm2_gets_a_command_that_there_is_and_rules_like_systemds(role: str, tmp_path: Path) -> None:
    file = ROOT / "configs" / "pm2" / "ecosystem.config.cjs"
    shown = f"console.log(JSON.stringify(require({json.dumps(str(file))}).apps))"
    run = subprocess.run(
        [needs("node"), "-e", shown],
        env=os.environ | {"GRADIENTS_HOME": str(tmp_path), "GRADIENTS_BIN": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    apps: dict[str, dict[str, Any]] = {each["name"]: each for each in json.loads(run.stdout)}  # JSON
    app = apps[f"gradients-{role}"]
    assert app["script"] == str(ROOT / ".venv" / "bin" / "gradients")
    assert app["autorestart"] is True
    assert (app["restart_delay"], app["kill_timeout"], app["treekill"]) == (1000, 30000, False)
    ran = subprocess.run(
        [sys.executable, "-m", "gradients.cli", *app["args"]], capture_output=True, text=True, check=False, timeout=600
    )
    assert ran.stderr.startswith(f"gradients: There is no settings file {tmp_path}/{role}/settings.toml")


def test_what_machines_are_asked_for_is_what_doctors_ask_for() -> None:
    asked = yaml.safe_load((ROOT / "min_compute.yml").read_text())["compute_spec"]
    assert set(asked) == set(ROLES)
    for needed in asked.values():
        assert needed["storage"]["min_space"] == LEAST_FREE_GIB
        for kind in ("cpu", "gpu", "memory", "storage"):
            numbers = {
                name.partition("_")[0]: value
                for name, value in needed[kind].items()
                if name.endswith(("cores", "vram", "ram", "space"))
            }
            assert numbers["min"] <= numbers["recommended"]
