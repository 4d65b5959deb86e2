"""`scripts/gpu` on a machine without a GPU: it says so; and its checks run with tiny shapes, so that a mistake in them shows here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.cuda.__main__ import CHECKS

ROOT = Path(__file__).parents[2]


def run(*arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.cuda", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout)


def test_without_cuda_it_says_so_and_is_no_failure(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    told = run("--json", "--out", str(tmp_path))
    assert (told.returncode, json.loads(told.stdout)) == (0, {"skipped": "no CUDA device"})
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_check_is_named() -> None:
    told = run("--only", "device,nothing", "--rehearse")
    assert told.returncode == 2
    assert "unknown: nothing" in told.stderr


def test_a_check_is_reported_with_what_came_of_it(tmp_path: Path) -> None:
    told = run("--rehearse", "--only", "device", "--out", str(tmp_path), "--json")
    assert [check["outcome"] for check in json.loads(told.stdout)["checks"]] == ["held"]
    assert told.returncode == 0
    assert "| device | held |" in (tmp_path / "gpu.md").read_text()


def test_a_check_that_there_is_no_time_for_is_not_begun_and_breaks_nothing(tmp_path: Path) -> None:
    told = run("--rehearse", "--only", "device,lora", "--seconds", "29", "--out", str(tmp_path), "--json")
    assert [check["outcome"] for check in json.loads(told.stdout)["checks"]] == ["not run", "not run"]
    assert told.returncode == 0


@pytest.mark.slow
def test_every_check_holds_in_a_rehearsal(tmp_path: Path) -> None:
    """One market of the two, and not every training: in a rehearsal they differ by a base or by a plan alone."""
    names = ",".join(name for name in CHECKS if name not in ("market", "short_of_memory", "full"))
    told = run("--rehearse", "--only", names, "--seconds", "1800", "--out", str(tmp_path), "--json", timeout=2000)
    report = json.loads(told.stdout)
    assert [check["name"] for check in report["checks"]] == names.split(",")
    assert {check["name"]: check["broken"] for check in report["checks"]} == {
        check["name"]: [] for check in report["checks"]
    }
    assert {check["outcome"] for check in report["checks"]} == {"held"}
    assert told.returncode == 0
