"""`gradients validator key`: keys go into the ledger that a validator reads, and no other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradients.clock import SystemClock
from validator.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """The ledger of a validator whose folder is tmp_path / "val"."""
    return Ledger.open(f"sqlite:///{tmp_path}/val/ledger.db", SystemClock())


def key(tmp_path: Path, *arguments: str, folder: str = "val") -> subprocess.CompletedProcess[str]:
    """`gradients validator key` of a user whose home is tmp_path."""
    root = Path(__file__).parents[3]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GRADIENTS_", "BT_"))}
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "gradients.cli",
            "validator",
            "key",
            *arguments,
            *(["--folder", folder] if folder else []),
        ],
        env=clean | {"HOME": str(tmp_path), "PYTHONPATH": str(root)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_a_key_is_all_that_standard_output_gets_and_the_ledger_is_named_beside_it(
    tmp_path: Path, ledger: Ledger
) -> None:
    run = key(tmp_path, "acme")
    assert run.returncode == 0
    assert ledger.customers.of_key(run.stdout.strip()) == "acme"
    assert f"{tmp_path}/val/ledger.db" in run.stderr


def test_no_ledger_is_made_where_no_validator_reads_one(tmp_path: Path) -> None:
    for folder, place in (("", ".gradients/validator"), ("elsewhere", "elsewhere")):
        run = key(tmp_path, "acme", folder=folder)
        assert run.returncode == 1
        assert f"There is no validator's ledger at {tmp_path}/{place}/ledger.db" in run.stderr
        assert "--folder" in run.stderr
        assert not (tmp_path / place).exists()


def test_revoking_needs_no_name_and_says_whose_key_it_was(tmp_path: Path, ledger: Ledger) -> None:
    made = ledger.customers.issue("alice")
    run = key(tmp_path, "--revoke", made, "--json")
    assert (run.returncode, json.loads(run.stdout)["customer"]) == (0, "alice")
    assert ledger.customers.of_key(made) is None


def test_a_key_that_opens_nothing_cannot_be_revoked(tmp_path: Path, ledger: Ledger) -> None:
    made = ledger.customers.issue("alice")
    ledger.customers.revoke(made)
    for useless in (made, "gr_guessed"):
        run = key(tmp_path, "--revoke", useless)
        assert (run.returncode, run.stdout) == (1, "")
        assert "The key opens nothing" in run.stderr


@pytest.mark.parametrize("arguments", [(), ("alice", "--revoke", "gr_x")], ids=["neither", "both"])
def test_a_name_or_a_key_to_revoke_is_given_and_not_both(arguments: tuple[str, ...], tmp_path: Path) -> None:
    run = key(tmp_path, *arguments)
    assert run.returncode == 2
    assert "not both" in run.stderr
