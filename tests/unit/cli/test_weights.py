"""`gradients weights`: what it finds, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradients.clock import SystemClock
from validator.ledger import Ledger


def weights(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`gradients weights` of a user whose home is tmp_path, where a validator's folder is "val"."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GRADIENTS_", "BT_"))}
    return subprocess.run(
        [sys.executable, "-m", "gradients.cli", "weights", *arguments],
        env=clean | {"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(f"sqlite:///{tmp_path}/val/ledger.db", SystemClock())


def test_a_decision_is_shown_as_one_object(tmp_path: Path, ledger: Ledger) -> None:
    ledger.outbox.decide("weights:20", {"shares": {"5Alice": 1.0}, "tasks": []}, block=25)
    run = weights(tmp_path, "show", "--folder", "val", "--json")
    assert run.returncode == 0, run.stderr
    shown = json.loads(run.stdout)
    assert (shown["call"]["key"], shown["call"]["shares"], shown["tasks"]) == ("weights:20", {"5Alice": 1.0}, [])
    assert shown["as_decided"] is False  # no task of the ledger has led to it


def test_a_miner_without_a_result_is_refused_by_name(tmp_path: Path, ledger: Ledger) -> None:
    run = weights(tmp_path, "explain", "--folder", "val", "--hotkey", "5Nobody")
    assert (run.returncode, run.stdout) == (1, "")
    assert "5Nobody has no result" in run.stderr


def test_no_ledger_is_made_where_there_is_none(tmp_path: Path) -> None:
    run = weights(tmp_path, "show", "--folder", "elsewhere")
    assert run.returncode == 1
    assert f"There is no validator's ledger at {tmp_path}/elsewhere/ledger.db" in run.stderr
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("arguments", [(), ("--hotkey", "5Alice", "--burn")], ids=["neither", "both"])
def test_a_miner_or_burning_is_explained_and_not_both(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    run = weights(tmp_path, "explain", *arguments)
    assert run.returncode == 2
    assert "not both" in run.stderr
