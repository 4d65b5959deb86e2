"""`gradients validator prune` on a real folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradients.clock import SystemClock
from validator.ledger import Ledger

LONG_AGO = 1_000_000.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A validator's folder with an upload of nobody's, from long ago, and a fresh one."""
    folder = tmp_path / "val"
    Ledger.open(f"sqlite:///{folder}/ledger.db", SystemClock()).engine.dispose()
    (folder / "uploads").mkdir()
    for name in ("old.jsonl", "fresh.jsonl"):
        (folder / "uploads" / name).write_text("x" * 1234)
    os.utime(folder / "uploads" / "old.jsonl", (LONG_AGO, LONG_AGO))
    return folder


def prune(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gradients.cli", "validator", "prune", "--folder", str(folder), *arguments]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GRADIENTS_", "BT_"))}
    return subprocess.run(command, env=clean, capture_output=True, text=True, check=False, timeout=600)


def test_a_dry_run_tells_what_would_go_and_drops_nothing(folder: Path) -> None:
    run = prune(folder, "--dry-run", "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {"dry_run": True, "bytes": {"tasks": 0, "blobs": 0, "uploads": 1234}}
    assert len(list((folder / "uploads").iterdir())) == 2


def test_it_drops_what_nobody_needs_and_says_how_much(folder: Path) -> None:
    run = prune(folder)
    assert run.returncode == 0, run.stderr
    assert "uploads: 1,234 bytes are gone" in run.stdout
    assert [path.name for path in (folder / "uploads").iterdir()] == ["fresh.jsonl"]


def test_where_no_validator_has_been_there_is_nothing_to_prune(tmp_path: Path) -> None:
    run = prune(tmp_path / "nowhere")
    assert run.returncode != 0
    assert "no validator's ledger" in run.stdout + run.stderr
