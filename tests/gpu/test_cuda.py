"""What must hold on a GPU and cannot be seen on a CPU. Skipped where torch sees none; `scripts/gpu` runs them on a box that has one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gradients.bases.bases import SHIPPED
from gradients.config import device_environment
from gradients.doctor.machine import gpu
from gradients.errors import JobFailed
from gradients.execution.job import Job
from gradients.execution.process import ProcessExecutor
from gradients.ml.base_model import load_base
from gradients.ml.device import Device, choose_device
from gradients.ml.losses import measure_rows
from gradients.ml.text import ChatFormat, PromptRow
from gradients.tasks.jobs.measuring import Entrant, EntrantResult, MeasureJob
from gradients.tasks.jobs.training import TrainingPlan, TrainJob

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")]

BASE = SHIPPED / "nano-lm"
DEFINITIONS = SHIPPED.parent / "data" / "wordnet-definitions" / "rows.jsonl"
GIB = 2**30


def prompt_rows(count: int) -> list[PromptRow]:
    lines = DEFINITIONS.read_text(encoding="utf-8").splitlines()[:count]
    return [PromptRow(prompt=row["question"], completion=row["definition"]) for row in map(json.loads, lines)]


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(row.model_dump_json() + "\n" for row in prompt_rows(96)))
    return file


@pytest.fixture
def train_job(tmp_path: Path, rows_file: Path) -> Callable[..., TrainJob]:
    def make(**plan: object) -> TrainJob:
        values = {"recipe": "gpu", "method": "lora", "learning_rate": 2e-3, "max_epochs": 4.0} | plan
        return TrainJob(
            base_folder=BASE,
            train_file=rows_file,
            parameters={"max_tokens": 256},
            plan=TrainingPlan.model_validate(values),
            seed=1,
            deadline_unix=time.time() + 60,
            checkpoint_folder=tmp_path / "checkpoint",
            output_folder=tmp_path / "output",
        )

    return make


def measured(job_folder: Path, rows_file: Path, *entrants: Entrant) -> dict[str, EntrantResult]:
    from gradients.tasks.instruct.metric import measure

    job = MeasureJob(
        base_folder=BASE,
        held_out_file=rows_file,
        parameters={"max_tokens": 256},
        entrants=entrants,
        results_folder=job_folder,
        seed=0,
    )
    measure(job.model_dump(mode="json"), lambda _: None)
    return {
        each.id: EntrantResult.model_validate_json((job_folder / f"{each.id}.json").read_bytes()) for each in entrants
    }


def test_the_gpu_is_chosen() -> None:
    assert choose_device().name == "cuda"


def test_losses_in_float32_are_those_of_the_cpu() -> None:
    """Sums in another order: 1e-4 nats a token is 25 times what was seen between two CPUs."""
    gpu, cpu = (load_base(BASE, Device(name)) for name in ("cuda", "cpu"))
    examples = ChatFormat(cpu.tokenizer).encode(prompt_rows(32), max_tokens=256)
    here, there = (measure_rows(base.model, examples, device=base.device, max_tokens=4096) for base in (gpu, cpu))
    assert [row.mean for row in here] == pytest.approx([row.mean for row in there], abs=1e-4)


def test_the_precision_that_is_chosen_moves_no_loss_by_more_than_a_hundredth(tmp_path: Path, rows_file: Path) -> None:
    exact = load_base(BASE, Device("cpu"))
    examples = ChatFormat(exact.tokenizer).encode(prompt_rows(96), max_tokens=256)
    rows = measure_rows(exact.model, examples, device=exact.device, max_tokens=4096)
    value = measured(tmp_path / "results", rows_file, Entrant(id="base"))["base"].value
    assert value == pytest.approx(sum(row.mean for row in rows) / len(rows), rel=0.01)


def test_a_base_measured_twice_in_one_job_is_bit_equal(tmp_path: Path, rows_file: Path) -> None:
    results = measured(tmp_path / "results", rows_file, Entrant(id="base"), Entrant(id="again"))
    assert results["base"].per_row == results["again"].per_row


@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_is_trained_here_beats_the_base_when_measured_here(
    method: str, tmp_path: Path, rows_file: Path, train_job: Callable[..., TrainJob]
) -> None:
    from gradients.tasks.instruct.trainer import train

    job = train_job(method=method)
    train(job.model_dump(mode="json"), lambda _: None)
    results = measured(
        tmp_path / "results", rows_file, Entrant(id="base"), Entrant(id="ours", folder=job.output_folder)
    )
    assert results["base"].value is not None
    assert results["ours"].value is not None, results["ours"].failure_message
    assert results["ours"].value < results["base"].value - 0.3


def test_a_worker_sees_the_gpu_and_one_without_room_says_so_and_leaves_it_free(tmp_path: Path) -> None:
    before = torch.cuda.mem_get_info()[0]
    job = Job("tests.gpu.worker:take_all_memory", {}, tmp_path / "job", deadline_seconds=60)
    with pytest.raises(JobFailed) as caught:
        asyncio.run(ProcessExecutor(environment=device_environment()).run(job, report=lambda _: None))
    assert caught.value.code == "out_of_memory"
    assert before - torch.cuda.mem_get_info()[0] < 0.5 * GIB


def test_a_doctor_sees_every_gpu_calculate_and_a_driver_that_fits() -> None:
    found = {finding.name: finding for finding in gpu()}
    assert [found[name].level for name in ("gpu", "driver", "torch")] == ["ok", "ok", "ok"]
    assert found["torch"].found.count("GiB free") == torch.cuda.device_count()
