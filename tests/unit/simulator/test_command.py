"""`gradients simulate` as scripts use it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def _simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gradients.cli", "simulate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def test_one_object_ends_a_run() -> None:
    run = _simulate("--rules", "2", "--market", "idle", "--days", "2", "--sybils", "2", "--skill", "0.9", "--json")
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert {
        "rules",
        "market",
        "weeks",
        "best_paid_most",
        "pay",
        "spearman",
        "change_per_day",
        "validator_trust",
    } <= set(said)
    assert (said["rules"], said["market"], said["sybils"]) == (2, "idle", 2)
    assert set(said["pay"]) == {"honest", "idle", "sybils"}
    assert said["gain"] > 0
    assert said["validator_trust"] is None  # one seed is one validator
    assert said["intervals"]["pay"]["idle"] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--market", "fair"], "There is no market 'fair'"),
        (["--rules", "9"], "Version 9 of the rules is not known"),
        (["--rules", "1", "--luck", "0.1"], "Version 1 of the rules knows no luck"),
    ],
)
def test_what_cannot_be_played_is_refused_in_one_line(arguments: list[str], problem: str) -> None:
    run = _simulate(*arguments)
    assert run.returncode == 1
    assert problem in run.stderr
    assert len(run.stderr.splitlines()) == 1
