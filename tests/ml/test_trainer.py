"""The reference trainer on a tiny base: real seconds, real files, a real kill."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from gradients.domain.json import JsonObject
from gradients.errors import DatasetInvalid, JobFailed, ModelUnknown
from gradients.execution.job import Job
from gradients.execution.process import ProcessExecutor
from gradients.ml.base_model import LoadedBase
from gradients.ml.device import Device
from gradients.ml.losses import measure_rows
from gradients.ml.objective import CompletionObjective
from gradients.ml.submission import applied
from gradients.ml.text import ChatFormat, read_prompt_rows
from gradients.ml.training import TrainingSettings
from gradients.tasks.hand_in import HandIn
from gradients.tasks.instruct.metric import read_examples
from gradients.tasks.instruct.spec import INSTRUCT
from gradients.tasks.instruct.trainer import train
from gradients.tasks.jobs.training import TrainJob, TrainResult
from gradients.tasks.workers.training import Trainable, completion_objective, language_model, run_job

CPU = Device("cpu")
MakeJob = Callable[..., TrainJob]


def run(job: TrainJob, told: list[JsonObject] | None = None) -> TrainResult:
    return TrainResult.model_validate(train(job.model_dump(mode="json"), (told if told is not None else []).append))


def loss(base: LoadedBase, rows: Path, folder: Path | None) -> float:
    examples = ChatFormat(base.tokenizer).encode(read_prompt_rows(rows), max_tokens=256)
    with applied(base.model, folder):
        measured = measure_rows(base.model, examples, device=CPU, max_tokens=2048)
    return sum(row.mean for row in measured) / len(measured)


def test_a_lora_learns_and_genuine_peft_reads_it(
    base: LoadedBase, base_folder: Path, held_out_file: Path, train_job: MakeJob
) -> None:
    job = train_job(
        seconds=300,
        max_epochs=4.0,
        probe_learning_rates=(1e-2, 3e-2),
        lora_rank_stabilised=True,
        lora_plus_ratio=4.0,
    )
    result = run(job)
    assert time.time() < job.deadline_unix
    assert result.kind == "adapter"
    assert result.learning_rate in (1e-2, 3e-2)
    assert sorted(path.name for path in job.output_folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    config = json.loads((job.output_folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny-base"
    ours = loss(base, held_out_file, job.output_folder)
    assert ours < 0.85 * loss(base, held_out_file, None)

    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    genuine = PeftModel.from_pretrained(model, job.output_folder).eval()
    examples = ChatFormat(base.tokenizer).encode(read_prompt_rows(held_out_file), max_tokens=256)
    theirs = [row.mean for row in measure_rows(genuine, examples, device=CPU, max_tokens=2048)]
    assert sum(theirs) / len(theirs) == pytest.approx(ours, abs=1e-5)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_layers_that_are_computed_again_and_small_parts_learn_the_same(
    base: LoadedBase, held_out_file: Path, train_job: MakeJob, method: str
) -> None:
    losses = []
    for sparing in ({}, {"gradient_checkpointing": True, "micro_batch_tokens": 64}):
        job = train_job(seconds=300, method=method, max_epochs=1.0, **sparing)
        run(job)
        losses.append(loss(base, held_out_file, job.output_folder))
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)
    assert losses[0] < loss(base, held_out_file, None)


def test_a_full_fine_tune_learns_and_is_as_large_as_the_base(
    base: LoadedBase, base_folder: Path, held_out_file: Path, train_job: MakeJob
) -> None:
    job = train_job(seconds=300, max_epochs=4.0, method="full")
    result = run(job)
    assert time.time() < job.deadline_unix
    assert result.kind == "full"
    assert loss(base, held_out_file, job.output_folder) < 0.85 * loss(base, held_out_file, None)
    ours, theirs = job.output_folder / "model.safetensors", base_folder / "model.safetensors"
    assert ours.stat().st_size < 1.05 * theirs.stat().st_size
    assert {n: (t.shape, t.dtype) for n, t in load_file(ours).items()} == {
        n: (t.shape, t.dtype) for n, t in load_file(theirs).items()
    }
    assert (job.output_folder / "config.json").read_bytes() == (base_folder / "config.json").read_bytes()


def test_a_finished_job_returns_its_result_without_training(train_job: MakeJob) -> None:
    job = train_job(seconds=120, max_epochs=1.0)
    told: list[JsonObject] = []
    result = run(job)
    assert run(job.model_copy(update={"deadline_unix": time.time() + 99}), told) == result
    assert told == []


def test_progress_goes_from_loading_over_training_to_saving_however_fast(
    train_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradients.ml.training._REPORT_SECONDS", 1e9)
    told: list[JsonObject] = []
    run(train_job(seconds=120, max_epochs=2.0), told)
    assert list(dict.fromkeys(progress["phase"] for progress in told)) == ["loading", "training", "saving"]
    steps = [progress["step"] for progress in told if isinstance(progress["step"], int)]
    assert steps == sorted(steps)


@pytest.mark.slow
def test_a_trainer_killed_in_the_middle_has_handed_in_and_goes_on_where_it_was(
    base: LoadedBase, held_out_file: Path, train_job: MakeJob, tmp_path: Path
) -> None:
    job = train_job(seconds=600, max_epochs=100.0)
    steps: list[int] = []

    def kill_after_a_hand_in(progress: JsonObject) -> None:
        if progress["phase"] != "training":
            return
        steps.append(int(str(progress["step"])))
        if HandIn.left_in(job.checkpoint_folder, job.output_folder):
            os.kill(_worker(), signal.SIGKILL)

    arguments = job.model_dump(mode="json")
    by_worker = Job(function=INSTRUCT.train, arguments=arguments, folder=tmp_path / "job", deadline_seconds=600)
    with pytest.raises(JobFailed) as caught:
        asyncio.run(ProcessExecutor().run(by_worker, report=kill_after_a_hand_in))
    assert caught.value.code == "job_killed"
    left = HandIn.left_in(job.checkpoint_folder, job.output_folder)
    assert left is not None
    assert not left.is_final
    assert left.result.beats_base
    assert loss(base, held_out_file, job.output_folder) < loss(base, held_out_file, None)

    told: list[JsonObject] = []
    result = run(job, told)
    first_step = next(int(str(progress["step"])) for progress in told if progress["phase"] == "training")
    assert first_step > steps[0]
    assert result.steps > steps[-1]
    assert time.time() < job.deadline_unix
    assert HandIn.left_in(job.checkpoint_folder, job.output_folder) == left.model_copy(
        update={"result": result, "is_final": True}
    )


@pytest.mark.parametrize("average", [False, True], ids=["weights", "running average"])
def test_what_is_handed_in_on_the_way_is_what_its_result_says(
    train_job: MakeJob, monkeypatch: pytest.MonkeyPatch, average: bool
) -> None:
    """On the rows that were kept from training, by the objective that trained: each of them as it was said to be, to a float's end."""
    monkeypatch.setattr("gradients.ml.training._MIN_HAND_IN_SECONDS", 0.0)
    monkeypatch.setattr("gradients.ml.training._HAND_IN_SHARE", 1e9)
    said: list[tuple[bool, float | None]] = []
    found: list[float | None] = []

    def objective(base: LoadedBase, job: TrainJob, settings: TrainingSettings) -> CompletionObjective:
        return completion_objective(base, read_examples(base, job.train_file, 256), settings, seed=job.seed)

    def trainable(job: TrainJob, settings: TrainingSettings) -> Trainable:
        made = language_model(job, settings, lambda base: objective(base, job, settings))

        def write(folder: Path) -> None:
            found.append(made.objective.validate(made.model))
            made.write(folder)

        return made._replace(write=write, average_decay=0.9 if average else 0.0)

    leave = HandIn.leave_result

    def left(self: HandIn, checkpoints: Path) -> None:
        said.append((self.is_final, self.result.validation_loss))
        leave(self, checkpoints)

    monkeypatch.setattr(HandIn, "leave_result", left)
    job = train_job(seconds=120, max_epochs=3.0, candidates=3)
    run_job(job.model_dump(mode="json"), lambda _: None, trainable)
    assert len(found) > 2
    assert found == pytest.approx([loss for _, loss in said][: len(found)], abs=1e-6)
    assert [is_final for is_final, _ in said] == [False] * (len(said) - 1) + [True]
    assert said[-1][1] == min(loss for _, loss in said if loss is not None)


def _worker() -> int:
    """Process id of the only worker among this process's children."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    [worker] = [
        child for child in children if b"gradients.execution.worker" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    return int(worker)


def test_a_budget_that_is_over_is_refused_and_leaves_nothing(train_job: MakeJob) -> None:
    job = train_job(seconds=-5)
    with pytest.raises(JobFailed) as caught:
        run(job)
    assert caught.value.code == "budget_too_short"
    assert not job.output_folder.exists()


def test_a_plan_that_takes_less_memory_goes_on_from_the_same_checkpoint(train_job: MakeJob) -> None:
    """Which a finished job's result stands for here: how much goes through the model at once changes no weight."""
    result = run(train_job(seconds=120, max_epochs=1.0))
    told: list[JsonObject] = []
    less = train_job(seconds=120, max_epochs=1.0, micro_batch_tokens=64, gradient_checkpointing=True)
    assert run(less, told) == result
    assert told == []
    run(train_job(seconds=120, max_epochs=1.0, learning_rate=2e-2), told)
    assert told


def test_other_arguments_do_not_go_on_from_a_strange_checkpoint(train_job: MakeJob) -> None:
    run(train_job(seconds=120, max_epochs=1.0))
    assert (
        run(train_job(seconds=120, max_epochs=1.0, method="full")).kind == "full"
    )  # the checkpoint has weights that it does not know


def test_a_missing_base_and_missing_rows_are_named(train_job: MakeJob, tmp_path: Path) -> None:
    job = train_job(seconds=3)
    with pytest.raises(ModelUnknown):
        run(job.model_copy(update={"base_folder": tmp_path / "nowhere"}))
    job.train_file.write_text("")
    with pytest.raises(DatasetInvalid):
        run(job)
