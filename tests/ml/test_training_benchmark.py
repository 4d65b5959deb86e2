"""`scripts/bench training`: what it counts, and that both engines are measured on the same rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gradients.ml.adapters import LoraShape, add_adapter
from gradients.ml.base_model import load_base
from scripts.benchmarks import training_rivals
from scripts.benchmarks.training_steps import operations
from tests.ml.conftest import CPU

ROOT = Path(__file__).parents[2]
HIDDEN, NARROW, WIDE, LAYERS, VOCABULARY = 48, 24, 128, 2, 320  # of the tiny base
MATRICES = [(HIDDEN, HIDDEN)] * 2 + [(HIDDEN, NARROW)] * 2 + [(HIDDEN, WIDE)] * 3
WEIGHTS = LAYERS * sum(rows * columns for rows, columns in MATRICES)
HEAD = HIDDEN * VOCABULARY


def test_a_weight_that_trains_takes_six_operations_a_token_and_a_frozen_one_four(base_folder: Path) -> None:
    model = load_base(base_folder, CPU).model
    assert operations(model.requires_grad_(True)) == (6 * WEIGHTS, 6 * HEAD)
    factors = LAYERS * sum(4 * (rows + columns) for rows, columns in MATRICES)
    assert operations(add_adapter(model, LoraShape(rank=4, alpha=8.0))) == (4 * WEIGHTS + 6 * factors, 4 * HEAD)


def test_a_base_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        training_rivals.main(["--bases", str(tmp_path)])
    assert caught.value.code == 2
    assert f"there is no base model in {tmp_path}" in capsys.readouterr().err


def test_shapes_want_a_gpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit, match="--rehearse runs it on a CPU"):
        training_rivals.main(["--shapes", "half-b"])


def said(*words: str) -> list[dict[str, object]]:
    command = [sys.executable, "-m", "scripts.benchmarks", "training", "--json", *words]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=1200)
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.mark.slow
def test_both_engines_are_measured_on_a_base_in_a_folder(base_folder: Path) -> None:
    few = [
        "--methods",
        "lora",
        "--steps",
        "3",
        "--settling",
        "1",
        "--turns",
        "1",
        "--batch-rows",
        "2",
        "--held-out",
        "2",
    ]
    *figures, last = said("--bases", str(base_folder), *few)
    what = [f"tiny-base, lora, {engine}: " for engine in ("ours", "trl")]
    names = ("speed", "memory", "share of the ceiling", "loss")
    assert [each["what"] for each in figures] == [engine + name for engine in what for name in names]
    assert all(isinstance(each["median"], float) and each["median"] > 0 for each in figures)
    assert last["ratios"].keys() == {"tiny-base, lora: trl", "tiny-base, lora: memory of trl"}  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_rehearsal_of_shapes_trains_by_both_engines() -> None:
    *figures, last = said("--shapes", "half-b", "--ways", "lora", "--rehearse")
    assert [each["what"] for each in figures] == [
        f"half-b, lora, {engine}: {name}" for engine in ("ours", "trl") for name in ("speed", "loss")
    ]
    assert last["ratios"].keys() == {"half-b, lora: trl"}  # type: ignore[attr-defined]
