"""The reference trainer of diffusion tasks: a LoRA inside a time budget, of which the average of the last steps is handed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field

from gradients.domain.json import JsonObject
from gradients.errors import SetupError
from gradients.ml.adapters import LoraShape
from gradients.ml.device import choose_device
from gradients.ml.diffusion_lora import Targets, add_lora, write_lora
from gradients.ml.diffusion_objective import DenoisingObjective, DenoisingSettings
from gradients.ml.images import Captioned, read_captioned
from gradients.ml.objective import split_validation
from gradients.ml.pipelines import compute_blocks_again, load_image_base
from gradients.ml.training import TrainingSettings
from gradients.tasks.diffusion.spec import DiffusionParameters
from gradients.tasks.jobs.training import TrainJob
from gradients.tasks.workers.training import Trainable, run_job

ROWS_AT_ONCE = 8  # where the plan does not say


class DiffusionOptions(BaseModel):
    """Knobs of this trainer, as a plan's options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    snr_limit: float = Field(
        default=5.0, gt=0, description="min-SNR weighting: no level counts more than at this ratio"
    )
    caption_dropout: float = Field(default=0.5, ge=0, le=1, description="share of rows whose caption is not shown")
    average_decay: float = Field(default=0.98, ge=0, lt=1, description="of the average of weights that is handed in")
    mirrored: bool | None = Field(default=None, description="show half of the images mirrored; empty: for styles only")
    text_encoders: bool = Field(default=False, description="train the CLIP text encoders too")
    targets: Targets = Field(default="all", description="layers of the denoiser that get a LoRA")


def train(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a TrainJob and return a TrainResult."""
    return run_job(arguments, report, _trainable)


def _trainable(job: TrainJob, settings: TrainingSettings) -> Trainable:
    if settings.method != "lora":
        raise SetupError("Diffusion tasks are trained as LoRAs only", fix='Set method = "lora" in the recipe')
    options = DiffusionOptions.model_validate(job.plan.options)
    asked = DiffusionParameters.model_validate(job.parameters)
    base = load_image_base(job.base_folder, choose_device())
    rows = read_captioned(job.train_file)
    train, validation = split_validation(len(rows.captions), fraction=settings.validation_fraction, seed=job.seed)
    objective = DenoisingObjective(
        base,
        train=_rows(rows, train),
        validation=_rows(rows, validation) if validation else None,
        settings=DenoisingSettings(
            snr_limit=options.snr_limit,
            caption_dropout=options.caption_dropout,
            mirrored=asked.subject == "style" if options.mirrored is None else options.mirrored,
            text_encoders=options.text_encoders,
            rows_at_once=settings.micro_batch_rows or ROWS_AT_ONCE,
        ),
        seed=job.seed,
    )
    shape = LoraShape(
        rank=settings.lora_rank,
        alpha=settings.lora_alpha,
        dropout=settings.lora_dropout,
        rank_stabilised=settings.lora_rank_stabilised,
    )
    add_lora(base, shape, targets=options.targets, text_encoders=options.text_encoders)
    if settings.gradient_checkpointing:
        compute_blocks_again(base)
    return Trainable(
        base.parts(), objective, lambda folder: write_lora(base, folder, shape), average_decay=options.average_decay
    )


def _rows(rows: Captioned, positions: Sequence[int]) -> Captioned:
    return Captioned(rows.images[torch.tensor(positions)], [rows.captions[position] for position in positions])
