"""Pictures of base and submissions side by side, for people to look at. No score depends on them."""

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
from gradients.tasks.workers.generation import BASE, GenerateJob, by_prompt

_STEPS = 30


def generate(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """{"answers": [{"prompt", "base", and each submission by its name}]}: PNG files in a fresh temporary folder."""
    job = GenerateJob.model_validate(arguments)
    base = load_image_base(job.base_folder, choose_device())
    folder = Path(tempfile.mkdtemp(prefix="gradients-drawn-"))
    entrants: dict[str, Path | None] = {BASE: None, **job.submissions}
    files = {who: _drawn(base, job, who, submission, folder=folder) for who, submission in entrants.items()}
    return {"answers": by_prompt(job, files)}


def _drawn(base: ImageBase, job: GenerateJob, who: str, submission: Path | None, *, folder: Path) -> list[str]:
    """One file a prompt, drawn from the same noise for all."""
    draw = base.family.text_to_image()(**base.pipeline.components)
    draw.set_progress_bar_config(disable=True)
    files: list[str] = []
    with lora_applied(base, submission), torch.inference_mode(), base.device.precision():
        for number, prompt in enumerate(job.prompts, start=1):
            seed = torch.Generator().manual_seed(job.seed)
            shown = draw(prompt, num_inference_steps=_STEPS, generator=seed, output_type="pt").images[0]
            file = folder / f"{number}-{who}.png"
            write_picture(file, picture(torch.as_tensor(shown)))
            files.append(str(file))
    return files
