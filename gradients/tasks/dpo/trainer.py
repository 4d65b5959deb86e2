"""The reference trainer of DPO tasks: a LoRA or a full fine-tune on preferences, inside a time budget."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field

from gradients.domain.json import JsonObject
from gradients.ml.base_model import LoadedBase
from gradients.ml.micro_batches import MicroBatches
from gradients.ml.objective import split_validation
from gradients.ml.preference import PreferenceObjective
from gradients.ml.training import TrainingSettings
from gradients.tasks.dpo.metric import log_probabilities, read_pairs
from gradients.tasks.dpo.spec import DpoParameters
from gradients.tasks.jobs.training import TrainJob
from gradients.tasks.workers.training import Trainable, language_model, run_job


class DpoOptions(BaseModel):
    """Knobs of this trainer, from the `options` of a plan."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sft_weight: float = Field(
        default=0.0, ge=0, description="what the chosen answer's cross-entropy per token counts beside the DPO loss"
    )


def train(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a TrainJob and return a TrainResult."""
    return run_job(arguments, report, _trainable)


def _trainable(job: TrainJob, settings: TrainingSettings) -> Trainable:
    options = DpoOptions.model_validate(job.plan.options)

    def objective(base: LoadedBase) -> PreferenceObjective:
        pairs = read_pairs(base, job.train_file, job.parameters, max_tokens=settings.max_tokens)
        train, validation = split_validation(len(pairs), fraction=settings.validation_fraction, seed=job.seed)
        return PreferenceObjective(
            train=[pairs[i] for i in train],
            validation=[pairs[i] for i in validation],
            reference=lambda some: log_probabilities(base, some),
            beta=DpoParameters.model_validate(job.parameters).beta,
            sft_weight=options.sft_weight,
            device=base.device,
            micro=MicroBatches(base.device, vocabulary=base.vocabulary, most=settings.micro_batch_tokens),
        )

    return language_model(job, settings, objective)
