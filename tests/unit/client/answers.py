"""Answers of the customers' API, complete but for what a test says otherwise."""

from __future__ import annotations

from gradients.client.models import MinerResult, TaskDetails


def miner(**changes: object) -> MinerResult:
    """The winner of a scored task."""
    told = {
        "uid": 3,
        "hotkey": "5Winner",
        "recipe": "lora-tuned",
        "state": "measured",
        "loss": 3.25,
        "stderr": 0.04,
        "extras": {},
        "rank": 1,
        "gain": 0.2777,
        "chance": 0.91,
        "prize": 1.82,
        "copy_of": None,
        "reason": "rank 1 of 1, 27.77% better than the base; best with a chance of 91.0%",
        "repo": "/v1/tasks/instruct-000000000001/models/5Winner",
        "progress": None,
    }
    return MinerResult.model_validate({**told, **changes})


def task(*miners: MinerResult, **changes: object) -> TaskDetails:
    """A scored task of these miners."""
    told = {
        "id": "instruct-000000000001",
        "type": "instruct",
        "state": "scored",
        "base": "nano-lm",
        "hours": 0.02,
        "created_at": 0.0,
        "metric": {"name": "completion cross-entropy", "unit": "nats/token"},
        "better": "lower",
        "rows": 294,
        "failure": None,
        "data": None,
        "blocks": None,
        "base_loss": 4.5,
        "base_stderr": 0.05,
        "miners": [each.model_dump() for each in miners],
    }
    return TaskDetails.model_validate({**told, **changes})
