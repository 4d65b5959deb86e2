"""One tiny base per session: torch and transformers are imported once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch

from gradients.ml.base_model import LoadedBase, load_base
from gradients.ml.device import Device
from gradients.ml.text import ChatFormat, Example, PromptRow
from gradients.tasks.jobs.training import TrainingPlan, TrainJob
from gradients.testing.tiny_models import write_tiny_llama

torch.set_num_threads(1)  # what a worker's environment does
CPU = Device("cpu")
NOUNS = ("harbour", "anvil", "meadow", "lantern", "quarry", "saddle", "turret", "willow", "ferry", "orchard")
PLACES = ("by the sea", "in a smithy", "under open sky", "on a tower", "behind the mill")


def make_rows(count: int) -> list[PromptRow]:
    """Rows of different lengths with something to learn: a fixed form, and a place that follows from the noun."""
    return [
        PromptRow(
            system="Answer in one short sentence." if number % 3 == 0 else None,
            prompt=f"Where do you find a {NOUNS[number % 10]} number {number}?",
            completion=f"You find it {PLACES[number % 5]}" + ", as everybody knows" * (number % 4) + ".",
        )
        for number in range(count)
    ]


def write_rows(path: Path, rows: Sequence[PromptRow]) -> Path:
    path.write_text("".join(row.model_dump_json() + "\n" for row in rows))
    return path


def write_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value))


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("models") / "tiny-base", seed=7)


@pytest.fixture(scope="session")
def base(base_folder: Path) -> LoadedBase:
    return load_base(base_folder, CPU)


@pytest.fixture(scope="session")
def examples(base: LoadedBase) -> list[Example]:
    return ChatFormat(base.tokenizer).encode(make_rows(24), max_tokens=256)


@pytest.fixture(scope="session")
def held_out_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "held_out.jsonl", make_rows(24))


@pytest.fixture
def train_job(tmp_path: Path, base_folder: Path) -> Callable[..., TrainJob]:
    """Makes a job of a few seconds; keyword arguments change its plan."""

    def make(*, seconds: float, rows: int = 80, **changes: object) -> TrainJob:
        train_file = write_rows(tmp_path / "train.jsonl", make_rows(rows))
        plan = {"recipe": "test", "method": "lora", "learning_rate": 1e-2, "max_epochs": 1000.0} | changes
        return TrainJob(
            base_folder=base_folder,
            train_file=train_file,
            parameters={"max_tokens": 256},
            plan=TrainingPlan.model_validate(plan),
            seed=3,
            deadline_unix=time.time() + seconds,
            checkpoint_folder=tmp_path / "checkpoint",
            output_folder=tmp_path / "output",
        )

    return make
