"""What the trainers of all task types share: one job, done once, resumed where it was killed, handed in as a whole.

A trainer says what trains, on which objective, and how the result is written. Only worker processes import this module.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from gradients.domain.json import JsonObject, canonical
from gradients.errors import JobFailed
from gradients.files.whole import whole_folder, write_text
from gradients.ml.base_model import LoadedBase
from gradients.ml.checkpoint import CheckpointFile
from gradients.ml.device import choose_device
from gradients.ml.engine import Engine, OwnEngine
from gradients.ml.full_model import write_full_model
from gradients.ml.micro_batches import MicroBatches, compute_layers_again
from gradients.ml.objective import CompletionObjective, Objective, split_validation
from gradients.ml.precision import load_to_train
from gradients.ml.telling import TrainingProgress
from gradients.ml.text import Example
from gradients.ml.trainee import Trainee
from gradients.ml.training import TrainingRun, TrainingSettings
from gradients.tasks.jobs import TrainJob, TrainProgress, TrainResult


class Trainable(NamedTuple):
    """What a trainer hands over to the training loop."""

    model: nn.Module  # the weights that train require gradients
    objective: Objective
    write: Callable[[Path], None]  # leaves the repo's model files in a folder
    average_decay: float = 0.0  # of the running average of weights that is handed in; 0 hands in weights as they are
    engine: Callable[[Trainee, Objective], Engine] = OwnEngine


class _Finished(BaseModel):
    """What a run that left its model files says when it is asked again."""

    model_config = ConfigDict(frozen=True)

    digest: str
    result: TrainResult


def run_job(
    arguments: JsonObject,
    report: Callable[[JsonObject], None],
    make: Callable[[TrainJob, TrainingSettings], Trainable],
) -> JsonObject:
    """Do a TrainJob and return a TrainResult.

    The model files lie in the output folder as a whole or not at all. A call with the same arguments goes on where the last one was
    killed, or returns its result when that was done; the deadline may have moved. Raises JobFailed when the budget is too short.
    """
    job = TrainJob.model_validate(arguments)
    # What ties a checkpoint to a job: all but the deadline, which a restarted miner computes anew from blocks.
    digest = hashlib.sha256(canonical(job.model_dump(mode="json", exclude={"deadline_unix"}))).hexdigest()
    result_file = job.checkpoint_folder / "result.json"
    with suppress(FileNotFoundError, ValidationError):
        finished = _Finished.model_validate_json(result_file.read_bytes())
        if finished.digest == digest and job.output_folder.is_dir():
            return finished.result.model_dump(mode="json")

    def tell(progress: TrainingProgress) -> None:
        report(TrainProgress.model_validate(progress, from_attributes=True).model_dump(mode="json"))

    tell(TrainingProgress("loading", 0.0, 0, None))
    result, write = _train(job, make, checkpoints=CheckpointFile(job.checkpoint_folder, digest), tell=tell)
    # The result first and the model files last, so whoever sees them sees all.
    write_text(result_file, _Finished(digest=digest, result=result).model_dump_json())
    with whole_folder(job.output_folder) as folder:
        write(folder)
    return result.model_dump(mode="json")


def language_model(
    job: TrainJob, settings: TrainingSettings, objective: Callable[[LoadedBase], Objective]
) -> Trainable:
    """The job's base with the plan's weights trainable, and the plan's engine. The objective is made from the untouched base."""
    frozen = settings.method == "lora"
    base = load_to_train(job.base_folder, choose_device(), frozen=frozen, in_4bit=settings.load_in_4bit)
    made, engine = objective(base), _engine(base, settings)
    if settings.engine == "trl":
        from gradients.ml.trl_engine import speed_up

        speed_up(base.model, base.device, packs=isinstance(made, CompletionObjective))
    if settings.gradient_checkpointing:
        compute_layers_again(base.model)
    if not frozen:
        base.model.requires_grad_(True)
        return Trainable(base.model, made, lambda folder: write_full_model(base, folder), engine=engine)
    from gradients.ml.adapters import LoraShape, add_adapter, write_adapter  # peft; a full fine-tune does without

    shape = LoraShape(
        rank=settings.lora_rank,
        alpha=settings.lora_alpha,
        dropout=settings.lora_dropout,
        rank_stabilised=settings.lora_rank_stabilised,
    )
    adapted = add_adapter(base.model, shape)
    return Trainable(
        base.model, made, lambda folder: write_adapter(adapted, folder, base_name=base.folder.name), engine=engine
    )


def _engine(base: LoadedBase, settings: TrainingSettings) -> Callable[[Trainee, Objective], Engine]:
    """Who makes the steps. Raises JobFailed (engine_missing) where the plan's engine is not installed."""
    if settings.engine != "trl":
        return OwnEngine
    try:
        from gradients.ml.trl_engine import trl_engine  # seconds of imports
    except ImportError as error:
        raise JobFailed(
            f"TRL cannot be imported: {error}",
            code="engine_missing",
            fix='Install the extra `train`, or write engine = "ours" in the recipe',
        ) from error
    return trl_engine(base.tokenizer)


def completion_objective(
    base: LoadedBase, examples: Sequence[Example], settings: TrainingSettings, *, seed: int
) -> CompletionObjective:
    """Cross-entropy of the examples' answers, with some rows kept to choose the best weights by."""
    train, validation = split_validation(len(examples), fraction=settings.validation_fraction, seed=seed)
    return CompletionObjective(
        train=[examples[i] for i in train],
        validation=[examples[i] for i in validation],
        weighting=settings.row_weighting,
        device=base.device,
        micro=MicroBatches(base.device, vocabulary=base.vocabulary, most=settings.micro_batch_tokens),
    )


def _train(
    job: TrainJob,
    make: Callable[[TrainJob, TrainingSettings], Trainable],
    *,
    checkpoints: CheckpointFile,
    tell: Callable[[TrainingProgress], None],
) -> tuple[TrainResult, Callable[[Path], None]]:
    """What the run came to, with the best weights in the model, and what writes these."""
    started = time.monotonic()
    torch.manual_seed(job.seed)
    settings = TrainingSettings(**job.plan.model_dump(exclude={"recipe", "options"}))
    made = make(job, settings)
    run = TrainingRun(
        made.model,
        made.objective,
        settings,
        seed=job.seed,
        deadline=job.deadline_unix,
        checkpoints=checkpoints,
        report=tell,
        average_decay=made.average_decay,
        engine=made.engine,
    )
    outcome = run.run()
    tell(run.progress("saving", 1.0))
    result = TrainResult(
        kind="adapter" if settings.method == "lora" else "full",
        engine="trl" if settings.engine == "trl" else "ours",
        seconds=time.monotonic() - started,
        **outcome._asdict(),
    )
    return result, made.write
