"""What the trainers of all task types share: one job, done once, resumed where it was killed, handed in as a whole.

A trainer says what trains, on which objective, and how the result is written. Only worker processes import this module.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from gradients.domain.json import JsonObject, canonical
from gradients.errors import JobFailed
from gradients.ml.base_model import LoadedBase
from gradients.ml.checkpoint import CheckpointFile
from gradients.ml.device import Device, choose_device
from gradients.ml.engine import Engine, OwnEngine
from gradients.ml.full_model import write_full_model
from gradients.ml.micro_batches import MicroBatches, compute_layers_again
from gradients.ml.objective import CompletionObjective, Objective, split_validation
from gradients.ml.precision import load_to_train
from gradients.ml.shards import layers_of, shard
from gradients.ml.spread import Agreed, ShardedCheckpoint, agreed, agreed_time, here
from gradients.ml.telling import Outcome, TrainingProgress
from gradients.ml.text import Example
from gradients.ml.trainee import Trainee
from gradients.ml.training import TrainingRun, TrainingSettings
from gradients.tasks.hand_in import HandIn
from gradients.tasks.jobs.training import TrainJob, TrainProgress, TrainResult
from gradients.tasks.workers.ranks import run_in_ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EngineOf = Callable[[Trainee, Objective], Engine]


class Trainable(NamedTuple):
    """What a trainer hands over to the training loop."""

    model: nn.Module  # the weights that train require gradients
    objective: Objective
    write: Callable[[Path], None]  # leaves the repo's model files in a folder
    average_decay: float = 0.0  # of the running average of weights that is handed in; 0 hands in weights as they are
    engine: EngineOf = OwnEngine
    assist: Callable[[], None] = lambda: None  # while another process of the training writes


def run_job(
    arguments: JsonObject,
    report: Callable[[JsonObject], None],
    make: Callable[[TrainJob, TrainingSettings], Trainable],
) -> JsonObject:
    """Do a TrainJob and return a TrainResult.

    The model files lie in the output folder as a whole or not at all, the best ones so far while the run goes on (hand_in.py). A call with
    the same arguments goes on where the last one was killed, or returns its result when that was done; the deadline may have moved. Raises
    JobFailed when the budget is too short.
    """
    job = TrainJob.model_validate(arguments)
    digest = _digest(job)
    finished = _finished(job, digest)
    place = here()
    if finished is None and job.plan.engine == "trl" and job.plan.processes > 1 and place.processes == 1:
        trainer = f"{make.__module__}:train"
        folder = job.checkpoint_folder / "ranks"
        run_in_ranks(trainer, arguments, processes=job.plan.processes, folder=folder, report=report)
        finished = _finished(job, digest)
        if finished is None:
            raise JobFailed("The processes of the training ended without a result", code="job_crashed")
    if finished is None:
        finished = _train(job, digest, make, report=report if place.is_first else lambda _: None)
    return finished.model_dump(mode="json")


def _finished(job: TrainJob, digest: str) -> TrainResult | None:
    """What a call before this one came to; None where none came to its end."""
    left = HandIn.left_in(job.checkpoint_folder, job.output_folder)
    return left.result if left and left.digest == digest and left.is_final else None


def _digest(job: TrainJob) -> str:
    """What ties a checkpoint to a job: all but the deadline, which a restarted miner computes anew from blocks, and what changes no weight.

    How much goes through the model at once, and what is computed again, is memory's alone: a run that died of it goes on with less.
    """
    memory = {"micro_batch_tokens", "micro_batch_rows", "gradient_checkpointing"}
    told = job.model_dump(mode="json", exclude={"deadline_unix": True, "plan": memory})
    return hashlib.sha256(canonical(told)).hexdigest()


def language_model(
    job: TrainJob, settings: TrainingSettings, objective: Callable[[LoadedBase], Objective]
) -> Trainable:
    """The job's base with the plan's weights trainable, and the plan's engine. The objective is made from the untouched base."""
    engine = _engine(settings)
    frozen = settings.method == "lora"
    base = load_to_train(job.base_folder, _device(), frozen=frozen, in_4bit=settings.load_in_4bit)
    if settings.gradient_checkpointing:
        compute_layers_again(base.model)
    if here().processes > 1:  # the base is measured in parts as well; a fresh adapter adds nothing to it
        model, write = _weights(base, settings)
        shard(model, layers_of(base.model))
        made: Objective = objective(base)
    else:
        made = objective(base)
        model, write = _weights(base, settings)
    return Trainable(model, made, write, engine=engine(base, made), assist=lambda: write(None))


def _weights(base: LoadedBase, settings: TrainingSettings) -> tuple[PreTrainedModel, Callable[[Path | None], None]]:
    """The base with the plan's weights trainable, and what writes these, or for None helps the process that does."""
    if settings.method == "full":
        base.model.requires_grad_(True)
        return base.model, lambda folder: write_full_model(base, folder)
    from gradients.ml.adapters import LoraShape, add_adapter, write_adapter  # peft; a full fine-tune does without

    shape = LoraShape(
        rank=settings.lora_rank,
        alpha=settings.lora_alpha,
        dropout=settings.lora_dropout,
        rank_stabilised=settings.lora_rank_stabilised,
    )
    adapted = add_adapter(base.model, shape)
    return adapted, lambda folder: write_adapter(adapted, folder, base_name=base.folder.name)


def _device() -> Device:
    """Where this process computes; with others, as precisely as the first one."""
    device = choose_device()
    narrow = agreed(float(device.autocast_dtype is not None))
    return Device(device.name, torch.bfloat16 if narrow else None)


def _engine(settings: TrainingSettings) -> Callable[[LoadedBase, Objective], EngineOf]:
    """How the plan's engine is made for a base and an objective. Raises JobFailed (engine_missing) where it is not installed."""
    if settings.engine != "trl":
        return lambda _, __: OwnEngine
    try:
        from gradients.ml.trl_engine import speed_up, trl_engine  # seconds of imports
    except ImportError as error:
        raise JobFailed(
            f"TRL cannot be imported: {error}",
            code="engine_missing",
            fix='Install the extra `train`, or write engine = "ours" in the recipe',
        ) from error

    def made(base: LoadedBase, objective: Objective) -> EngineOf:
        speed_up(base.model, base.device, packs=isinstance(objective, CompletionObjective))
        return trl_engine(base.tokenizer)

    return made


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
    digest: str,
    make: Callable[[TrainJob, TrainingSettings], Trainable],
    *,
    report: Callable[[JsonObject], None],
) -> TrainResult:
    """What the run came to; the best weights are handed in."""

    def tell(progress: TrainingProgress) -> None:
        report(TrainProgress.model_validate(progress, from_attributes=True).model_dump(mode="json"))

    def worth(outcome: Outcome, *, is_final: bool) -> HandIn:
        result = TrainResult(
            kind="adapter" if settings.method == "lora" else "full",
            engine="trl" if settings.engine == "trl" else "ours",
            seconds=time.monotonic() - started,
            **outcome._asdict(),
        )
        return HandIn(digest=digest, result=result, is_final=is_final)

    def hand_in(outcome: Outcome) -> None:
        worth(outcome, is_final=False).leave(job.checkpoint_folder, job.output_folder, made.write)

    started = time.monotonic()
    tell(TrainingProgress("loading", 0.0, 0, None))
    torch.manual_seed(job.seed)
    settings = TrainingSettings(**job.plan.model_dump(exclude={"recipe", "options"}))
    made = make(job, settings)
    spread = here().processes > 1
    checkpoints = CheckpointFile(job.checkpoint_folder, digest)
    run = TrainingRun(
        made.model,
        Agreed(made.objective) if spread else made.objective,
        settings,
        seed=job.seed,
        deadline=job.deadline_unix,
        checkpoints=ShardedCheckpoint(checkpoints) if spread else checkpoints,
        report=tell,
        now=agreed_time,
        average_decay=made.average_decay,
        engine=made.engine,
        hand_in=None if spread else hand_in,  # in parts, all processes would have to write together
    )
    outcome = run.run()
    tell(run.progress("saving", 1.0))
    last = worth(outcome, is_final=True)
    if run.is_handed_in:
        last.leave_result(job.checkpoint_folder)
    elif here().is_first:
        last.leave(job.checkpoint_folder, job.output_folder, made.write)
    else:
        made.assist()
    return last.result
