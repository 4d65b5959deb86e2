"""Training, with its plan, what it tells on the way and what it comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from gradients.tasks.jobs.message import Parameters, WorkerMessage


class TrainingPlan(WorkerMessage):
    """Hyper-parameters of one training run, whatever the task type. Made by the miner's planning from a recipe, the base and the budget."""

    recipe: str = Field(description="name of the recipe it came from")
    method: Literal["lora", "full"]
    engine: Literal["ours", "trl", "auto"] = Field(
        default="auto",
        description="who makes the steps: our own loop or TRL's trainers; auto: what the planner finds, else our own",
    )
    processes: int = Field(default=1, ge=1, description="that TRL's trainers are spread over, one for each GPU")
    learning_rate: float = Field(gt=0, le=1)
    batch_rows: int = Field(default=8, ge=1, description="rows per optimiser step")
    max_tokens: int = Field(default=512, ge=8, description="longer rows are cut")
    micro_batch_tokens: int | None = Field(
        default=None,
        ge=8,
        description="tokens of one forward and backward pass; None: as many as the device is taken to hold",
    )
    micro_batch_rows: int | None = Field(
        default=None, ge=1, description="the same for types whose rows are pictures, in rows; None: 8"
    )
    gradient_checkpointing: bool = Field(
        default=False, description="compute each layer again in the backward pass instead of keeping what it computed"
    )
    load_in_4bit: bool = Field(
        default=False,
        description="keep a language model's matrices in 4 bits while a LoRA is trained on them (QLoRA); needs bitsandbytes",
    )
    optimiser: Literal["adamw", "adamw_8bit"] = Field(
        default="adamw", description="adamw_8bit keeps its moments in a byte each; needs bitsandbytes"
    )
    max_epochs: float = Field(default=3.0, gt=0, description="stop after this many passes even when time is left")
    candidates: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="whole runs at most: while time is left, further ones search for better hyper-parameters on the kept rows",
    )
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_fraction: float = Field(default=0.03, ge=0, le=0.5)
    weight_decay: float = Field(default=0.0, ge=0)
    row_weighting: Literal["row", "token"] = Field(
        default="row", description="'row' averages over rows as the metric does"
    )
    validation_fraction: float = Field(
        default=0.05, ge=0, le=0.5, description="own rows kept to choose the best checkpoint"
    )
    probe_learning_rates: tuple[float, ...] = Field(
        default=(), description="tried briefly first; the best one is trained with"
    )
    probe_fraction: float = Field(
        default=0.08,
        ge=0,
        le=0.25,
        description="share of the run's rows and of its time that each probe takes at most; all of them take at most 8 % of the time",
    )
    lora_rank: int = Field(default=16, ge=1, le=256)
    lora_alpha: float = Field(default=32.0, gt=0)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    lora_rank_stabilised: bool = Field(default=False, description="scale by alpha / sqrt(rank)")
    lora_plus_ratio: float = Field(default=1.0, ge=1, description="learning rate of B over that of A (LoRA+)")
    options: Parameters = Field(default_factory=dict, description="knobs of the task type's own trainer")

    @model_validator(mode="after")
    def _only_a_lora_trains_on_4_bits(self) -> Self:
        if self.load_in_4bit and self.method != "lora":
            raise ValueError('load_in_4bit freezes the base: write method = "lora" beside it')
        return self


class TrainJob(WorkerMessage):
    """Arguments of a trainer: leave a repo's model files in `output_folder` before `deadline_unix`."""

    base_folder: Path
    train_file: Path = Field(description="train rows, JSON lines")
    parameters: Parameters
    plan: TrainingPlan
    seed: int = Field(description="given by the validator per task and miner, so that honest runs differ")
    deadline_unix: float = Field(description="wall time by which the model files must lie in output_folder")
    checkpoint_folder: Path = Field(
        description="the trainer's own; a later run with the same arguments goes on from here"
    )
    output_folder: Path = Field(description="written as a whole (temporary name, then rename)")


class TrainResult(WorkerMessage):
    """What a trainer says at the end."""

    kind: Literal["adapter", "full"]
    engine: Literal["ours", "trl"] = Field(default="ours", description="that made the steps")
    tokens_per_second: float | None = Field(
        default=None, description="of train rows, as long as they are before any answer is drawn, in all whole runs"
    )
    steps: int = Field(description="of the best whole run, without probes")
    rows_seen: int = Field(description="by the best whole run, without probes")
    learning_rate: float = Field(description="of the best whole run")
    batch_rows: int = Field(description="of the best whole run")
    epochs: float = Field(description="passes over the rows that the best whole run made")
    candidates: int = Field(description="whole runs that were made")
    averaged: int = Field(description="of them, how many the weights handed in are the mean of")
    way: float = Field(
        default=1.0,
        description="from the base's weights to those handed in, that was gone: 1 unless rows kept from training say that less is better",
    )
    train_loss: float
    validation_loss: float | None = Field(description="of the weights handed in, on own rows kept from training")
    base_validation_loss: float | None = Field(default=None, description="of the untouched base on the same rows")
    beats_base: bool | None = Field(
        default=None,
        description="whether any weights were better than the base on these rows; if not, the least harmful ones are handed in",
    )
    seconds: float


class EndedRun(WorkerMessage):
    """A probe or a whole run that is over."""

    learning_rate: float
    loss: float | None = Field(default=None, description="its best validation; none when it diverged")
    batch_rows: int | None = Field(default=None, description="this and the next of whole runs")
    epochs: float | None = None


class TrainProgress(WorkerMessage):
    """One progress report of a trainer. Losses are missing while there is none, or none that is a number."""

    phase: Literal["loading", "probing", "training", "saving"]
    fraction: float = Field(
        ge=0, le=1, description="of what will really be run: by time or by rows, whichever ends it first"
    )
    step: int = Field(default=0, description="of the probe, or of all whole runs so far")
    loss: float | None = Field(default=None, description="of train rows, smoothed")
    learning_rate: float | None = Field(default=None, description="of the last step")
    run: int = Field(default=0, description="how many probes, or whole runs, were over")
    base_loss: float | None = Field(default=None, description="of the untouched base on the rows that were kept aside")
    validation_loss: float | None = Field(default=None, description="the last one of the run that goes on")
    best_loss: float | None = Field(default=None, description="of what would be handed in now")
    ended: EndedRun | None = Field(default=None, description="the probe or whole run that ended last")
