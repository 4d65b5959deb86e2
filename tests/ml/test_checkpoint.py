from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from gradients.ml.checkpoint import CheckpointFile, Position, Snapshot
from gradients.ml.search import Candidate, Trial

CANDIDATE = Candidate(learning_rate=1e-3, batch_rows=8, epochs=3.0)
TRIAL = Trial(
    candidate=CANDIDATE,
    loss=math.inf,
    curve=((0.5, 2.0), (1.0, math.inf)),
    steps=9,
    rows=72,
    passes=0.9,
    seconds=4.5,
    train_loss=None,
    helped=True,
)


def snapshot() -> Snapshot:
    return Snapshot(
        Position(
            started=1.5,
            steps=7,
            rows_seen=56,
            candidate=CANDIDATE,
            probed=((1e-3, 2.0), (1e-1, math.inf)),
            trials=(TRIAL,),
        ),
        weights={"a.b": torch.arange(3.0)},
        best={"a.b": torch.ones(3)},
        own={"a.b": torch.zeros(3)},
        mean={"a.b": torch.full((3,), 0.5)},
        optimiser={"0/step": torch.tensor(7.0), "0/exp_avg": torch.zeros(3)},
    )


def test_what_is_saved_comes_back_the_same(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "new", "digest")
    file.save(snapshot())
    loaded = file.load()
    assert loaded is not None
    assert loaded.position == snapshot().position
    for which in ("weights", "best", "own", "mean"):
        ours, theirs = getattr(loaded, which), getattr(snapshot(), which)
        assert {name: tensor.tolist() for name, tensor in ours.items()} == {n: t.tolist() for n, t in theirs.items()}
    assert sorted(loaded.optimiser) == ["0/exp_avg", "0/step"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["checkpoint.safetensors"]


def test_a_checkpoint_of_another_job_counts_as_none(tmp_path: Path) -> None:
    CheckpointFile(tmp_path, "one").save(snapshot())
    assert CheckpointFile(tmp_path, "other").load() is None


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert CheckpointFile(tmp_path / "nowhere", "digest").load() is None


@pytest.mark.parametrize("kept_bytes", [0, 4, 300])
def test_a_torn_checkpoint_counts_as_none(tmp_path: Path, kept_bytes: int) -> None:
    CheckpointFile(tmp_path, "digest").save(snapshot())
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:kept_bytes])
    assert CheckpointFile(tmp_path, "digest").load() is None
