"""Pictures of base and submission side by side, for people to look at. No score depends on them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from gradients.domain.json import JsonObject
from gradients.ml.device import choose_device
from gradients.ml.diffusion_lora import lora_applied
from gradients.ml.images import picture, write_picture
from gradients.ml.pipelines import ImageBase, load_image_base
from gradients.tasks.workers.generation import GenerateJob

_STEPS = 30


def generate(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """{"answers": [{"prompt", "base", "submission"}]}: PNG files in a fresh temporary folder; `submission` is null when there is none."""
    job = GenerateJob.model_validate(arguments)
    base = load_image_base(job.base_folder, choose_device())
    folder = Path(tempfile.mkdtemp(prefix="gradients-drawn-"))
    of_base = _drawn(base, job, None, folder=folder)
    of_submission = (
        _drawn(base, job, job.submission_folder, folder=folder) if job.submission_folder else [None] * len(of_base)
    )
    return {
        "answers": [
            {"prompt": prompt, "base": ours, "submission": theirs}
            for prompt, ours, theirs in zip(job.prompts, of_base, of_submission, strict=True)
        ]
    }


def _drawn(base: ImageBase, job: GenerateJob, submission: Path | None, *, folder: Path) -> list[str | None]:
    """One file a prompt, drawn from the same noise for both."""
    draw = base.family.text_to_image()(**base.pipeline.components)
    draw.set_progress_bar_config(disable=True)
    files: list[str | None] = []
    with lora_applied(base, submission), torch.inference_mode(), base.device.precision():
        for number, prompt in enumerate(job.prompts, start=1):
            seed = torch.Generator().manual_seed(job.seed)
            shown = draw(prompt, num_inference_steps=_STEPS, generator=seed, output_type="pt").images[0]
            file = folder / f"{number}-{'submission' if submission else 'base'}.png"
            write_picture(file, picture(torch.as_tensor(shown)))
            files.append(str(file))
    return files
