"""Whole jobs of diffusion tasks on every family of pipelines: train, measure with a contact sheet, draw for people."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
import torch
from PIL import Image

from gradients.domain.json import JsonObject
from gradients.execution.functions import resolve
from gradients.ml.images import picture
from gradients.tasks.diffusion.spec import DIFFUSION
from gradients.tasks.jobs.measuring import CONTACT_SHEET, Entrant, EntrantResult, MeasureJob
from gradients.tasks.jobs.message import Parameters
from gradients.tasks.jobs.training import TrainingPlan, TrainJob, TrainResult
from gradients.tasks.workers.generation import GenerateJob
from gradients.testing.tiny_pipelines import PIXELS, write_tiny_pipeline

pytestmark = pytest.mark.slow

PARAMETERS: Parameters = {"resolution": PIXELS, "strengths": [0.5], "seeds": 1, "steps": 3}
ROWS = 20  # of fewer none is kept to validate on
SHOWN = 8  # on the sheet
ENTRANTS = 2  # the base and the trained one


@dataclass(frozen=True)
class Jobs:
    """One family's base, rows, and the LoRA that was trained on them."""

    base: Path
    rows: Path
    trained: Path
    result: TrainResult


def _write_rows(file: Path) -> Path:
    generator = torch.Generator().manual_seed(4)
    lines = []
    for caption in ("a red circle", "a blue square", "a circle", "a red square") * (ROWS // 4):
        png = io.BytesIO()
        picture(torch.rand(3, PIXELS, PIXELS, generator=generator)).save(png, format="PNG")
        lines.append(json.dumps({"image": base64.b64encode(png.getvalue()).decode(), "caption": caption}))
    file.write_text("\n".join(lines))
    return file


@pytest.fixture(scope="module", params=["sd", "sdxl", "sd3", "flux"])
def jobs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    folder = tmp_path_factory.mktemp(request.param)
    base, rows = write_tiny_pipeline(folder / "base", request.param), _write_rows(folder / "rows.jsonl")
    job = TrainJob(
        base_folder=base,
        train_file=rows,
        parameters=PARAMETERS,
        plan=TrainingPlan(
            recipe="test",
            method="lora",
            learning_rate=1e-2,
            batch_rows=8,
            max_epochs=1,
            validation_fraction=0.2,
            lora_rank=2,
            micro_batch_rows=3,
            gradient_checkpointing=True,
            options={"text_encoders": True},
        ),
        seed=1,
        deadline_unix=time.time() + 600,
        checkpoint_folder=folder / "checkpoint",
        output_folder=folder / "output",
    )
    result = TrainResult.model_validate(resolve(DIFFUSION.train)(job.model_dump(mode="json"), _ignore))
    return Jobs(base, rows, job.output_folder, result)


def test_a_run_validates_and_hands_in_one_file_of_tensors(jobs: Jobs) -> None:
    assert [file.name for file in jobs.trained.iterdir()] == ["pytorch_lora_weights.safetensors"]
    assert (jobs.result.kind, jobs.result.steps) == ("adapter", 2)  # 16 of 20 rows train, 8 a step
    assert jobs.result.validation_loss is not None


def test_base_and_submission_are_measured_and_shown_on_a_sheet(jobs: Jobs, tmp_path: Path) -> None:
    job = MeasureJob(
        base_folder=jobs.base,
        held_out_file=jobs.rows,
        parameters=PARAMETERS,
        entrants=(Entrant(id="base"), Entrant(id="ours", folder=jobs.trained)),
        results_folder=tmp_path,
        seed=3,
    )
    resolve(DIFFUSION.measure)(job.model_dump(mode="json"), _ignore)
    resolve(str(DIFFUSION.finish))(job.model_dump(mode="json"), _ignore)
    read = {n: EntrantResult.model_validate_json((tmp_path / f"{n}.json").read_bytes()) for n in ("base", "ours")}
    assert [result.failure_message for result in read.values()] == ["", ""]
    assert [len(result.per_row) for result in read.values()] == [ROWS, ROWS]
    assert read["base"].per_row != read["ours"].per_row
    assert all(result.extras["denoising_loss"] > 0 for result in read.values())
    with Image.open(tmp_path / CONTACT_SHEET) as sheet:  # a cell is 128 pixels and a gap of 4, below headings
        assert sheet.size == ((1 + ENTRANTS) * 132 + 4, 14 + SHOWN * 132 + 4)


def test_both_are_drawn_from_the_same_noise_for_people(jobs: Jobs) -> None:
    job = GenerateJob(base_folder=jobs.base, submissions={"trained": jobs.trained}, prompts=("a red circle",))
    answers = cast(
        Sequence[Mapping[str, str]], resolve(DIFFUSION.generate)(job.model_dump(mode="json"), _ignore)["answers"]
    )
    assert [answer["prompt"] for answer in answers] == ["a red circle"]
    base, submission = (Path(answers[0][who]).read_bytes() for who in ("base", "trained"))
    assert base != submission
    assert base.startswith(b"\x89PNG")
    assert submission.startswith(b"\x89PNG")


def _ignore(_: JsonObject) -> None:
    """Progress that nobody watches."""
