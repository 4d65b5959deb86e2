"""`gradients miner results`: what a miner's journal says of every task."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from gradients.axon.messages import Outcome
from miner.journal import Journal, Record
from tests.unit.miner.fakes import OTHER_TASK, TASK, start

WON = Outcome(
    task_id=TASK,
    state="scored",
    metric="completion cross-entropy",
    unit="nats/token",
    base_loss=4.0,
    loss=3.0,
    stderr=0.01,
    gain=0.25,
    rank=1,
    ranked=3,
    chance=0.91,
    prize=1.82,
    share=0.6,
    reason="rank 1 of 3",
)


def results(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`gradients miner results` of a user whose home is tmp_path, where a miner's folder is "miner"."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GRADIENTS_", "BT_"))}
    return subprocess.run(
        [sys.executable, "-m", "gradients.cli", "miner", "results", "--folder", "miner", *arguments],
        env=clean | {"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3]), "COLUMNS": "200"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def remember(tmp_path: Path, task_id: str, **changes: object) -> None:
    record = Record(start=start(task_id), validator="5Validator", accepted_at=1.0, salt="5a" * 32)
    Journal(tmp_path / "miner" / "tasks").write(record.model_copy(update=changes))


def test_results_are_shown_as_a_table_and_as_one_object(tmp_path: Path) -> None:
    remember(tmp_path, TASK, manifest="{}", committed_at_block=20, outcome=WON)
    remember(tmp_path, OTHER_TASK, accepted_at=2.0, failure="out_of_memory: no room")
    lines = results(tmp_path).stdout.splitlines()
    [won] = [line for line in lines if TASK in line]
    cells = [cell.strip() for cell in won.split("│")[1:-1]]
    assert cells == [TASK, "4.0000", "3.0000", "+25.0%", "1 of 3", "91.0%", "1.82", "60.00%", "rank 1 of 3"]
    assert any("out_of_memory: no room" in line for line in lines if OTHER_TASK in line)
    first, second = json.loads(results(tmp_path, "--json").stdout)["tasks"]
    assert (first["task"], first["phase"], first["outcome"]["share"]) == (TASK, "committed", 0.6)
    assert (second["task"], second["failure"], second["outcome"]) == (OTHER_TASK, "out_of_memory: no room", None)


def test_what_is_still_to_come_is_said(tmp_path: Path) -> None:
    remember(tmp_path, TASK, manifest="{}", committed_at_block=20)
    assert "handed in, not scored yet" in results(tmp_path).stdout
    remember(tmp_path, TASK, manifest="{}", committed_at_block=20, outcome=WON.model_copy(update={"share": None}))
    assert "not yet" in results(tmp_path).stdout


def test_no_journal_is_made_where_there_is_none(tmp_path: Path) -> None:
    run = results(tmp_path)
    assert run.returncode == 1
    assert f"There is no miner's journal at {tmp_path}/miner/tasks" in run.stderr
    assert not (tmp_path / "miner").exists()
