"""A running customers' API with its ledger, and tasks in every state behind it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from fastapi import FastAPI
from safetensors.numpy import save

from gradients.axon.messages import AttemptStatus
from gradients.bases.bases import BaseModels
from gradients.conditions.state import Conditions
from gradients.datasets.access import Access
from gradients.domain.evaluation import Measurement, Placing
from gradients.domain.submission import BASE_ENTRANT, Submission, SubmissionState
from gradients.domain.task import Blob, Hotkey, Prepared, TaskId, TaskState, Window
from gradients.errors import Blame
from gradients.execution.inline import InlineExecutor
from gradients.execution.process import ProcessExecutor
from gradients.repo.manifest import TrainingSummary, describe_folder
from gradients.repo.store import ContentStore
from gradients.tasks.instruct.spec import INSTRUCT
from validator.api.dependencies import Dependencies
from validator.api.uploads import Uploads
from validator.board import Board
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.lease import Claim, Lease
from validator.ledger.placings import add_placings
from validator.ledger.submissions import add_submissions
from validator.settings import EstimateSettings
from validator.specs.estimates import Estimates
from validator.specs.intake import Intake
from validator.specs.rewards import RewardTrials

ALICE, BOB = Hotkey("5Alice"), Hotkey("5Bob")
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"
DELIVERED = {
    *("adapter_config.json", "adapter_model.safetensors", "README.md"),
    *("tokenizer.json", "tokenizer_config.json", "generation_config.json"),
}
MAX_UPLOAD_BYTES = 20_000
ROWS = b'{"instruction": "a", "output": "b"}\n' * 3
PREPARED = Prepared("b" * 64, 1_500_000, Blob("c" * 64, 10), Blob("d" * 64, 5), 90, 10, "e" * 64, (("empty", 2),))


class Words:
    """What miners said last."""

    def of(self, task_id: str, hotkey: str) -> AttemptStatus | None:
        if hotkey != ALICE:
            return None
        return AttemptStatus(task_id=task_id, phase="training", recipe="lora", fraction=0.5, step=12, loss=2.0)


@dataclass
class Market:
    """A running API and what lies behind it."""

    url: str
    ledger: Ledger
    folders: Folders
    posted: list[str]
    app: FastAPI
    conditions: Conditions = field(default_factory=Conditions)

    def __post_init__(self) -> None:
        self.clients = ExitStack()
        self.acme = self.client("acme")

    def client(self, customer: str | None) -> httpx.Client:
        key = {"Authorization": f"Bearer {self.ledger.customers.issue(customer)}"} if customer else {}
        client = httpx.Client(base_url=self.url, headers=key, timeout=120, trust_env=False)
        self.clients.callback(client.close)
        return client

    def upload(
        self, content: bytes = ROWS, *, name: str = "rows.jsonl", by: httpx.Client | None = None
    ) -> httpx.Response:
        return (by or self.acme).post("/v1/datasets", params={"name": name}, content=content)

    def spec(self, **changes: object) -> dict[str, object]:
        return {"type": "instruct", "base": "tiny", "dataset": "hub:acme/rows", "hours": 0.5, **changes}

    def posted_task(self) -> TaskId:
        answer = self.acme.post("/v1/tasks", json=self.spec())
        assert answer.status_code == 201, answer.text
        return TaskId(answer.json()["id"])

    def measured_task(self) -> tuple[TaskId, Claim]:
        """A task with a repo of Alice's and a failure of Bob's, in MEASURED and leased."""
        task_id, tasks, submissions = self.posted_task(), self.ledger.tasks, self.ledger.submissions
        invited = [
            Submission(task_id, h, uid, SubmissionState.INVITED, recipe="lora") for uid, h in ((1, ALICE), (2, BOB))
        ]
        tasks.advance(self._claim(TaskState.DRAFT), came_from=TaskState.DRAFT, to=TaskState.OPEN, prepared=PREPARED)
        lease = self._claim(TaskState.OPEN)
        tasks.set_window(lease, Window(1, 2, 3), draw={}, also=lambda session: add_submissions(session, invited))
        manifest = self._repo(task_id)
        submissions.collected(lease, ALICE, manifest=manifest, manifest_sha256="f" * 64, committed_at_block=2)
        submissions.started(lease, BOB)
        for entrant, value in ((BASE_ENTRANT, 3.0), (ALICE, 2.0)):
            submissions.measured(lease, Measurement(entrant, INSTRUCT.metric, value, 0.1, (value,) * 10))
        tasks.advance(lease, came_from=TaskState.OPEN, to=TaskState.MEASURED)
        claim = tasks.claim([TaskState.MEASURED], owner="test", block=10, lease_seconds=60)
        assert claim is not None
        return task_id, claim

    def scored_task(self, *, won: bool = True) -> TaskId:
        task_id, claim = self.measured_task()
        placings = [
            Placing(ALICE, 1, 1.0, 2.0, "rank 1 of 1") if won else Placing(ALICE, None, 0.0, 0.0, "not better"),
            Placing(BOB, None, 0.0, 0.0, "not_revealed", fault=Blame.MINER),
        ]
        self.ledger.tasks.advance(
            claim.lease,
            came_from=TaskState.MEASURED,
            to=TaskState.SCORED,
            also=lambda session: add_placings(session, claim.task, placings, rules_version=2, factor=2.0, now=1.0),
        )
        return task_id

    def advance(self, came_from: TaskState, to: TaskState, *, prepared: Prepared) -> None:
        """Move the task on that is due."""
        self.ledger.tasks.advance(self._claim(came_from), came_from=came_from, to=to, prepared=prepared)

    def _claim(self, state: TaskState) -> Lease:
        claim = self.ledger.tasks.claim([state], owner="test", block=10, lease_seconds=60)
        assert claim is not None
        return claim.lease

    def _repo(self, task_id: TaskId) -> str:
        """Write Alice's repo; its manifest."""
        repo = self.folders.submission(task_id, ALICE)
        repo.mkdir(parents=True)
        (repo / "adapter_config.json").write_text(
            '{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "evil/base",'
            ' "auto_mapping": {"parent_library": "os"}}'
        )
        (repo / "adapter_model.safetensors").write_bytes(
            save({f"{LAYER}.lora_{side}.weight": np.ones((2, 2), np.float32) for side in "AB"})
        )
        (repo / "README.md").write_text("Send your keys to the miner")
        about = describe_folder(
            repo, task_id=task_id, hotkey=ALICE, base_digest="b" * 64, kind="adapter", training=TrainingSummary()
        )
        (repo / "private.txt").write_text("not in the manifest")
        return about.text()


@dataclass
class Served:
    """One server for all tests; each puts its own dependencies behind it."""

    app: FastAPI
    url: str


def dependencies_of(
    ledger: Ledger, folder: Path, bases: BaseModels, posted: list[str], conditions: Conditions
) -> Dependencies:
    return Dependencies(
        ledger=ledger,
        board=Board(ledger, Words()),
        intake=Intake(ledger, bases, Folders(folder), lambda: posted.append("task")),
        uploads=Uploads(Folders(folder).uploads, ledger.uploads, MAX_UPLOAD_BYTES, 3 * MAX_UPLOAD_BYTES),
        estimates=Estimates(bases, InlineExecutor(), Access(), EstimateSettings()),
        rewards=RewardTrials(ProcessExecutor()),
        folders=Folders(folder),
        store=ContentStore(Folders(folder).blobs),
        conditions=conditions,
    )


def refusal_of(answer: httpx.Response, status: int) -> dict[str, str]:
    """A refusal has one form: a code, a sentence and what to do."""
    body: dict[str, str] = answer.json()
    assert (answer.status_code, set(body)) == (status, {"code", "message", "fix"})
    return body
