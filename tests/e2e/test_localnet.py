"""The main job as a user runs it: one command, real processes, real training, and one JSON object at the end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

LONGEST_RUN_SECONDS = 600


def _localnet(folder: Path, *flags: str) -> dict[str, Any]:
    """The run's report. HOME is the folder's, so that nobody's models are touched."""
    command = [sys.executable, "-m", "gradients.cli", "localnet", "--json", "--keep", str(folder / "kept"), *flags]
    environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=LONGEST_RUN_SECONDS, env=environment, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    report: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return report


def test_a_market_trains_measures_and_pays_on_chain(tmp_path: Path) -> None:
    report = _localnet(tmp_path, "--miners", "2", "--hours", "0.012")

    (task,) = report["tasks"]
    assert (task["type"], task["state"], task["better"]) == ("instruct", "scored", "lower")
    assert task["metric"] == {"name": "completion cross-entropy", "unit": "nats/token"}
    assert task["rows"] > 100
    best = min(task["miners"], key=lambda miner: miner["loss"])
    assert best["loss"] < task["base_loss"] - 4 * best["stderr"]
    assert best["points"] == max(miner["points"] for miner in task["miners"]) > 0
    assert list(Path(best["repo"]).glob("*.safetensors"))

    weights, incentive = report["chain"]["weights"], report["chain"]["incentive"]
    assert weights[str(best["uid"])] == max(weights.values())
    assert incentive[str(best["uid"])] == max(incentive.values())
    assert sum(weights.values()) == pytest.approx(1.0, abs=1e-3)
