"""What a miner is told of a model before it hands it in, by the validator's own screening, worker and rules."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from gradients.bases.bases import BaseInfo, BaseModels
from gradients.errors import DatasetInvalid, ModelUnknown, SetupError, SubmissionRejected, TaskInvalid
from gradients.execution.functions import resolve
from gradients.execution.inline import InlineExecutor
from gradients.files.digest import file_sha256
from gradients.tasks.jobs.message import Parameters
from gradients.tasks.jobs.training import TrainingPlan, TrainJob, TrainResult
from gradients.tasks.preparation import prepare
from gradients.tasks.registry import task_type, validate_request
from gradients.testing.task_samples import sample_of
from gradients.testing.tiny_models import write_tiny_llama
from miner.check import Report, checked
from miner.check_text import as_json, as_text
from miner.checked_task import CheckedTask
from tests.unit.miner.fakes import start

KEPT_SHARE = 0.25
SEED = 11


@dataclass(frozen=True)
class Trained:
    """A task as its miner has it, and the model that it has trained."""

    folder: Path
    base: BaseInfo
    record: Path
    train_file: Path
    model: Path
    result: TrainResult

    @property
    def task_id(self) -> str:
        return str(json.loads(self.record.read_text(encoding="utf-8"))["start"]["offer"]["task_id"])

    @property
    def task(self) -> CheckedTask:
        return CheckedTask.read(self.record)

    def check(self, model: Path | None = None, *, data: Path | None = None, against: tuple[Path, ...] = ()) -> Report:
        return checked(
            model or self.model,
            self.task,
            self.base,
            InlineExecutor(),
            data=data or self.train_file,
            against=against,
            kept_share=KEPT_SHARE,
            rows=48,
        )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("check")
    sample, kind = sample_of("instruct"), task_type("instruct")
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in sample.rows), encoding="utf-8")
    base = BaseModels.default(folder / "caches", folders=True).resolve(str(write_tiny_llama(folder / "base")))
    asked = validate_request({"type": "instruct", "base": base.name, "dataset": str(source), "hours": 0.1})
    data = prepare(kind, asked, salt=bytes(16), folder=folder / "data")
    job = TrainJob(
        base_folder=base.folder,
        train_file=data.train_file,
        parameters=cast(Parameters, asked.parameters),
        plan=TrainingPlan.model_validate(
            {"recipe": "test", **sample.plan, "max_epochs": 4.0, "validation_fraction": KEPT_SHARE}
        ),
        seed=SEED,
        deadline_unix=time.time() + 300,
        checkpoint_folder=folder / "checkpoints",
        output_folder=folder / "model",
    )
    result = TrainResult.model_validate(resolve(kind.train)(job.model_dump(mode="json"), lambda _: None))
    sent = start(base_digest=base.digest, parameters=asked.parameters, seed=SEED).model_dump(mode="json")
    sent["offer"] |= {"base": base.name}
    sent["train"] |= {"sha256": file_sha256(data.train_file)}
    record = folder / "record.json"
    record.write_text(json.dumps({"start": sent, "validator": "5V"}), encoding="utf-8")
    return Trained(folder, base, record, data.train_file, folder / "model", result)


def test_a_model_is_measured_on_the_rows_that_its_training_kept_back(trained: Trained) -> None:
    """The trainer has validated on the same rows, so both find the same losses."""
    report = trained.check()
    assert report.rows.kept
    assert report.rows.count == round(KEPT_SHARE * len(trained.train_file.read_bytes().splitlines()))
    assert report.model.value == pytest.approx(trained.result.validation_loss, rel=1e-3)
    assert report.base.value == pytest.approx(trained.result.base_validation_loss, rel=1e-3)
    assert report.counts
    assert report.gain.value == pytest.approx(report.base.value - report.model.value)


def test_the_answer_is_the_same_for_people_and_for_scripts(trained: Trained) -> None:
    report = trained.check()
    told, lines = as_json(report), list(as_text(report))
    model = cast(dict[str, float], told["model"])
    assert (told["counts"], told["refused"], told["rows_kept_from_training"]) == (True, False, True)
    assert model["low"] < model["value"] == report.model.value < model["high"]
    assert any(f"{report.model.value:.4f}" in line and "95 %" in line for line in lines)
    assert lines[-1] == "It would count as a fine-tune: better than the base beyond noise"
    assert max(map(len, lines)) < 120


def test_rows_that_were_not_trained_on_are_all_measured(trained: Trained, tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    own.write_bytes(b"".join(trained.train_file.read_bytes().splitlines(keepends=True)[:7]))
    report = trained.check(data=own)
    assert (report.rows.kept, report.rows.count) == (False, 7)


def test_a_copy_of_an_earlier_model_is_called_one(trained: Trained, tmp_path: Path) -> None:
    earlier = shutil.copytree(trained.model, tmp_path / "earlier")
    report = trained.check(against=(earlier,))
    assert (report.counts, report.copied) == (False, earlier)
    assert list(as_text(report))[-1] == f"It would not be paid: it is the same model as {earlier}"


def test_a_model_that_is_not_better_than_the_base_is_not_paid(trained: Trained, tmp_path: Path) -> None:
    """Its update goes the other way: the factor's sign is turned."""
    from safetensors.numpy import load_file, save_file

    worse = shutil.copytree(trained.model, tmp_path / "worse")
    file = worse / "adapter_model.safetensors"
    turned = {name: -tensor if "lora_B" in name else tensor for name, tensor in load_file(file).items()}
    save_file(turned, file, metadata={"format": "pt"})
    report = trained.check(worse)
    assert not report.counts
    assert report.gain.value < 0
    assert "not better than the base beyond noise" in list(as_text(report))[-1]


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("adapter_model.safetensors", b"not a header", "header_invalid"),
        ("adapter_config.json", b'{"peft_type": "LORA", "r": 0}', "adapter_config_invalid"),
        ("run.py", b"import os", "file_not_allowed"),
    ],
)
def test_what_a_validator_would_refuse_is_refused_with_its_code(
    trained: Trained, tmp_path: Path, name: str, content: bytes, code: str
) -> None:
    broken = shutil.copytree(trained.model, tmp_path / "broken")
    (broken / name).write_bytes(content)
    with pytest.raises(SubmissionRejected) as caught:
        trained.check(broken)
    assert caught.value.code == code


def test_another_base_than_the_tasks_is_not_measured(trained: Trained) -> None:
    other = trained.task.model_copy(update={"base_digest": "0" * 64})
    with pytest.raises(ModelUnknown, match="another one here"):
        checked(trained.model, other, trained.base, InlineExecutor(), data=trained.train_file, kept_share=0.25, rows=48)


def test_a_task_may_be_told_as_customers_write_it(tmp_path: Path) -> None:
    file = tmp_path / "task.json"
    file.write_text(json.dumps({"type": "instruct", "base": "nano-lm"}), encoding="utf-8")
    task = CheckedTask.read(file)
    assert (task.base_digest, task.train_sha256) == (None, "")
    assert (
        task.parameters
        == validate_request({"type": "instruct", "base": "nano-lm", "dataset": "rows.jsonl", "hours": 1.0}).parameters
    )


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        ("", SetupError, "does not hold a task"),
        ("[]", SetupError, "does not hold a task"),
        ('{"start": {"offer": {}}}', SetupError, "does not hold a task"),
        ('{"type": "instruct"}', TaskInvalid, "base"),
        ('{"type": "cooking", "base": "nano-lm"}', TaskInvalid, "cooking"),
    ],
)
def test_a_file_that_holds_no_task_says_what_to_give(
    tmp_path: Path, content: str, error: type[Exception], said: str
) -> None:
    file = tmp_path / "task.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(error, match=said):
        CheckedTask.read(file)


def test_rows_that_are_not_there_or_too_few_are_named(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be read"):
        trained.check(data=tmp_path / "none.jsonl")
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"\n")
    with pytest.raises(DatasetInvalid, match="too few rows"):
        trained.check(data=empty)


def test_the_command_tells_by_its_exit_code(trained: Trained, tmp_path: Path) -> None:
    broken = shutil.copytree(trained.model, tmp_path / "broken")
    (broken / "adapter_model.safetensors").write_bytes(b"not a header")

    kept = tmp_path / "tasks" / trained.task_id  # as a miner keeps it
    kept.mkdir(parents=True)
    shutil.copy(trained.record, kept / "record.json")
    shutil.copy(trained.train_file, kept / "train.jsonl")

    def run(model: Path) -> subprocess.CompletedProcess[str]:
        flags = ["--task", trained.task_id, "--json", "--folder", str(tmp_path)]
        return subprocess.run(
            [sys.executable, "-m", "gradients.cli", "miner", "check", str(model), *flags],
            env=os.environ | {"HOME": str(tmp_path), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    good, bad = run(trained.model), run(broken)
    assert (good.returncode, json.loads(good.stdout)["counts"]) == (0, True), good.stderr
    assert (bad.returncode, json.loads(bad.stdout)["error"]["code"]) == (1, "header_invalid"), bad.stderr
