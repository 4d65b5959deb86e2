"""The JSON object of a run, also for a miner that could not be measured."""

from __future__ import annotations

from pathlib import Path

from gradients.localnet.plan import Options, Plan, plan_market
from gradients.localnet.report import contact_sheet, model_folder, report
from gradients.localnet.snapshot import Snapshot
from tests.unit.client.answers import miner, task

SILENT = miner(
    uid=4,
    hotkey="5Silent",
    loss=None,
    stderr=None,
    gain=None,
    chance=0.0,
    prize=0.0,
    rank=None,
    reason="no commitment stood on chain at the deadline",
    repo=None,
)
TASK = task(miner(), SILENT, id="instruct-1")
SNAPSHOT = Snapshot(61.27, "paid", block=61, tasks=(TASK,), weights={3: 1.0}, incentive={3: 0.99})


def _plan(folder: Path) -> Plan:
    return plan_market(
        Options(
            folder, ("instruct",), tasks=1, miners=2, seed=0, hours=0.02, block_seconds=1.0, tempo_blocks=10, base=None
        )
    )


def test_a_miner_without_a_measurement_has_no_loss_and_a_reason(tmp_path: Path) -> None:
    assert report(SNAPSHOT, _plan(tmp_path)) == {
        "seconds": 61.3,
        "tasks": [
            {
                "id": "instruct-1",
                "type": "instruct",
                "state": "scored",
                "metric": {"name": "completion cross-entropy", "unit": "nats/token"},
                "better": "lower",
                "base_loss": 4.5,
                "rows": 294,
                "miners": [
                    {
                        "uid": 3,
                        "hotkey": "5Winner",
                        "recipe": "lora-tuned",
                        "loss": 3.25,
                        "stderr": 0.04,
                        "gain": 0.2777,
                        "chance": 0.91,
                        "prize": 1.82,
                        "copy_of": None,
                        "reason": "rank 1 of 1, 27.77% better than the base; best with a chance of 91.0%",
                        "repo": str(tmp_path / "validator" / "tasks" / "instruct-1" / "submissions" / "5Winner"),
                    },
                    {
                        "uid": 4,
                        "hotkey": "5Silent",
                        "recipe": "lora-tuned",
                        "loss": None,
                        "stderr": None,
                        "gain": None,
                        "chance": 0.0,
                        "prize": 0.0,
                        "copy_of": None,
                        "reason": "no commitment stood on chain at the deadline",
                        "repo": None,
                    },
                ],
            }
        ],
        "chain": {"block": 61, "weights": {"3": 1.0}, "incentive": {"3": 0.99}},
    }


def test_the_best_model_is_the_first_ones(tmp_path: Path) -> None:
    assert TASK.best == miner()
    lies_in = str(tmp_path / "validator" / "tasks" / "instruct-1" / "submissions" / "5Winner")
    assert model_folder(TASK, miner(), _plan(tmp_path)) == lies_in
    assert model_folder(TASK, SILENT, _plan(tmp_path)) is None
    assert task(SILENT).best is None


def test_a_contact_sheet_is_named_where_there_is_one(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    assert contact_sheet(TASK, plan) is None
    sheet = tmp_path / "validator" / "tasks" / "instruct-1" / "results" / "contact-sheet.png"
    sheet.parent.mkdir(parents=True)
    sheet.write_bytes(b"png")
    assert contact_sheet(TASK, plan) == sheet
