"""The reference trainer of RAG tasks: answers given passages, abstentions among them, in a LoRA or a full fine-tune."""

from __future__ import annotations

from collections.abc import Callable

from gradients.domain.json import JsonObject
from gradients.ml.base_model import LoadedBase
from gradients.ml.objective import CompletionObjective
from gradients.ml.text import read_prompt_rows
from gradients.ml.training import TrainingSettings
from gradients.tasks.jobs.training import TrainJob
from gradients.tasks.rag.metric import encoded, row_tokens
from gradients.tasks.workers.training import Trainable, completion_objective, language_model, run_job


def train(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a TrainJob and return a TrainResult."""
    return run_job(arguments, report, _trainable)


def _trainable(job: TrainJob, settings: TrainingSettings) -> Trainable:
    def objective(base: LoadedBase) -> CompletionObjective:
        most = min(settings.max_tokens, row_tokens(base, job.parameters))
        examples = encoded(base, read_prompt_rows(job.train_file), most)
        return completion_objective(base, examples, settings, seed=job.seed)

    return language_model(job, settings, objective)
