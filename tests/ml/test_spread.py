"""A model in parts in several processes: two of them on this machine's processor, over torch's gloo."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from gradients.domain.json import JsonObject
from gradients.errors import JobFailed
from gradients.ml.checkpoint import CheckpointFile, Position, Snapshot
from gradients.ml.shards import like, local, whole
from gradients.ml.spread import Agreed, Place, ShardedCheckpoint, agreed, here, join, leave, summed
from gradients.tasks.instruct.trainer import train
from gradients.tasks.jobs.training import TrainJob, TrainResult

MakeJob = Callable[..., TrainJob]


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A group of one process: this one."""
    join(Place(), tmp_path / "meeting")
    yield
    leave()


def snapshot(steps: int) -> Snapshot:
    return Snapshot(Position(started=1.0, steps=steps), {"weight": torch.full((2,), float(steps))})


def test_items_are_dealt_one_by_one() -> None:
    rows = list(range(7))
    shares = [list(Place(rank, 3).share(rows)) for rank in range(3)]
    assert shares == [[0, 3, 6], [1, 4], [2, 5]]
    assert [Place(rank, 3).is_first for rank in range(3)] == [True, False, False]


def test_a_process_on_its_own_agrees_with_itself() -> None:
    weight = torch.ones(2)
    assert (here(), agreed(3.5), summed(2.5)) == (Place(), 3.5, 2.5)
    assert local(weight) is whole(weight) is like(weight, torch.zeros(2)) is weight


@pytest.mark.usefixtures("group")
def test_a_group_agrees_on_the_first_ones_word() -> None:
    class Measured:
        lengths = (1,)

        def backward(self, model: object, rows: object) -> float:
            return 2.0

        def validate(self, model: object) -> float | None:
            return 1.5

    objective = Agreed(Measured())
    model: Any = None
    assert (objective.validate(model), objective.backward(model, [0])) == (1.5, 2.0)
    assert here() == Place()


@pytest.mark.usefixtures("group")
def test_a_checkpoint_that_was_cut_short_leaves_the_one_before(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "checkpoint", "digest")
    checkpoint = ShardedCheckpoint(file)
    assert checkpoint.load() is None
    for steps in (5, 10, 15):
        checkpoint.save(snapshot(steps))
    found = ShardedCheckpoint(file).load()
    assert found is not None
    assert found.position.steps == 15
    latest = max((tmp_path / "checkpoint").glob("*/checkpoint.safetensors"), key=steps_in)
    latest.write_bytes(b"half")
    after = ShardedCheckpoint(file)
    found = after.load()
    assert found is not None
    assert found.position.steps == 10
    after.save(snapshot(11))  # in the place of the broken one
    found = ShardedCheckpoint(file).load()
    assert found is not None
    assert found.weights["weight"].tolist() == [11.0, 11.0]


def steps_in(file: Path) -> int:
    with safe_open(file, framework="pt") as opened:
        return Position.model_validate_json(opened.metadata()["position"]).steps


def run(job: TrainJob, report: Callable[[JsonObject], None]) -> TrainResult:
    return TrainResult.model_validate(train(job.model_dump(mode="json"), report))


@pytest.mark.slow
def test_two_processes_train_what_one_does_and_go_on_after_one_was_killed(train_job: MakeJob, tmp_path: Path) -> None:
    asked = {"seconds": 500, "rows": 40, "method": "full", "max_epochs": 3.0, "engine": "trl"}
    alone = run(train_job(**asked), lambda _: None)
    job = train_job(**asked, processes=2).model_copy(
        update={"checkpoint_folder": tmp_path / "parts", "output_folder": tmp_path / "from parts"}
    )

    def kill_the_second(progress: JsonObject) -> None:
        if progress["phase"] == "training" and len(both := ranks()) == 2:  # more may have been said before the kill
            os.kill(both[1], signal.SIGKILL)

    with pytest.raises(JobFailed, match="ended with status") as caught:
        run(job, kill_the_second)
    assert caught.value.code in ("job_killed", "job_crashed")  # the first may miss the second before it is missed
    assert ranks() == []
    assert not job.output_folder.exists()

    told: list[JsonObject] = []
    result = run(job, told.append)
    assert (result.steps, result.rows_seen) == (alone.steps, alone.rows_seen)
    assert result.validation_loss == pytest.approx(alone.validation_loss, abs=2e-3)
    assert result.base_validation_loss == pytest.approx(alone.base_validation_loss, abs=1e-5)
    assert list(dict.fromkeys(progress["phase"] for progress in told)) == ["loading", "training", "saving"]
    assert sorted(path.name for path in job.output_folder.iterdir()) == ["config.json", "model.safetensors"]
    assert time.time() < job.deadline_unix


def ranks() -> list[int]:
    """Process ids of this process's children that train, by rank."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0") for child in children}
    mine = {pid: command for pid, command in commands.items() if b"gradients.tasks.workers.ranks" in command}
    return sorted(mine, key=lambda pid: int(mine[pid][-4]))
