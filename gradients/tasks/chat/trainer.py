"""The reference trainer of chat tasks: a LoRA or a full fine-tune on the assistant's turns, inside a time budget."""

from __future__ import annotations

from collections.abc import Callable

from gradients.domain.json import JsonObject
from gradients.ml.base_model import LoadedBase
from gradients.ml.objective import CompletionObjective
from gradients.ml.training import TrainingSettings
from gradients.tasks.chat.metric import read_examples
from gradients.tasks.jobs.training import TrainJob
from gradients.tasks.workers.training import Trainable, completion_objective, language_model, run_job


def train(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a TrainJob and return a TrainResult."""
    return run_job(arguments, report, _trainable)


def _trainable(job: TrainJob, settings: TrainingSettings) -> Trainable:
    def objective(base: LoadedBase) -> CompletionObjective:
        examples = read_examples(base, job.train_file, job.parameters, max_tokens=settings.max_tokens)
        return completion_objective(base, examples, settings, seed=job.seed)

    return language_model(job, settings, objective)
