"""What a miner hands in for a task. It can only end in a measurement or in a failure with a code."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gradients.domain.failure import Failure
from gradients.domain.task import Hotkey, TaskId

BASE_ENTRANT = "base"  # entrant 0 of every evaluation: the untouched base model


class SubmissionState(StrEnum):
    """What is true of a submission."""

    INVITED = "invited"  # drawn for the task
    STARTED = "started"  # the miner said that it trains
    COLLECTED = "collected"  # fetched by digest and screened
    MEASURED = "measured"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Submission:
    """One miner's part in one task."""

    task_id: TaskId
    hotkey: Hotkey
    uid: int  # at the start of the task; weights look the hotkey up again
    state: SubmissionState
    recipe: str = ""  # what the miner says it runs; shown, never used
    committed_at_block: int | None = None  # decides ties: the earlier commitment keeps the place
    committed_extrinsic: int | None = None  # its index within that block
    manifest_sha256: str | None = None
    failure: Failure | None = None
