"""`gradients backup` and `gradients restore` as an operator calls them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gradients.clock import SystemClock
from miner.journal import Journal
from miner.settings import MinerSettings
from tests.unit.miner.fakes import TASK
from tests.unit.miner.test_journal import record
from validator.ledger import Ledger

ROOT = Path(__file__).parents[3]


def gradients(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A command of a user whose home is `home`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GRADIENTS_", "BT_"))}
    run = subprocess.run(
        [sys.executable, "-m", "gradients.cli", *map(str, arguments)],
        env=clean | {"HOME": str(home), "PYTHONPATH": str(ROOT)},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert "Traceback" not in run.stderr, run.stderr[-2000:]
    return run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user whose validator and miner have worked where they do by default."""
    Ledger.open(f"sqlite:///{tmp_path}/.gradients/validator/ledger.db", SystemClock()).engine.dispose()
    tasks = tmp_path / ".gradients" / "miner" / "tasks"
    Journal(tasks).write(record())
    (tasks / TASK / "train.jsonl").write_text("{}\n")
    return tmp_path


def test_a_daemon_in_its_default_folder_comes_back_where_it_was(home: Path) -> None:
    folder = home / ".gradients" / "miner"
    (folder / "settings.toml").write_text("concurrent_tasks = 3\n")
    made = gradients(home, "backup", "copy", "--folder", folder, "--json")
    assert json.loads(made.stdout)["role"] == "miner", made.stderr
    assert gradients(home, "restore", "copy", "--check").returncode == 0
    refused = gradients(home, "restore", "copy")
    assert "miner is not an empty folder. Move it away, or name another one: --folder" in refused.stderr
    shutil.rmtree(folder)
    assert gradients(home, "restore", "copy").returncode == 0
    assert Journal(folder / "tasks").find(TASK) == record()
    assert MinerSettings.load(folder / "settings.toml", {}).concurrent_tasks == 3


def test_where_there_are_two_daemons_one_has_to_be_named(home: Path) -> None:
    run = gradients(home, "backup", "copy")
    assert run.returncode == 1
    assert "There is a validator in " in run.stderr
    assert "Say which: --role, --folder or --config" in run.stderr
    assert "validator in" in gradients(home, "backup", "copy", "--role", "validator").stdout
    assert gradients(home, "backup", "other", "--folder", home).stderr.startswith("gradients: No daemon has worked")


def test_a_journal_that_this_version_cannot_read_is_not_restored(home: Path) -> None:
    file = home / ".gradients" / "miner" / "tasks" / TASK / "record.json"
    file.write_text(file.read_text().replace('"salt"', '"pepper"'))
    assert gradients(home, "backup", "copy", "--role", "miner").returncode == 0
    run = gradients(home, "restore", "copy", "--folder", home / "new")
    assert run.returncode == 1
    assert "cannot be read" in run.stderr
    assert not (home / "new").exists()
