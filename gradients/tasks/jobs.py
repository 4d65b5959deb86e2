"""What crosses the border to worker processes: arguments and results of training and measuring, the same for every task type."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from gradients.domain.evaluation import Fingerprint
from gradients.domain.task import SourceCount
from gradients.errors import Blame

Parameters = dict[str, JsonValue]
MEASURE_THROUGHPUT = "gradients.tasks.workers.throughput:measure"
MERGE = "gradients.tasks.workers.exporting:merge"
MAKE_BASE = "gradients.tasks.workers.continuing:make_base"
PROMPT_LAYOUT = "gradients.tasks.workers.exporting:prompt_layout"
CHECK_REPO = "gradients.tasks.workers.checking:check"
KEEP = "gradients.tasks.workers.keeping:keep"
HOLD = "gradients.tasks.workers.holding:hold"
FIND_DEVICES = "gradients.tasks.workers.devices:find"
PREPARE = "gradients.tasks.workers.preparing:prepare"
SURVEY = "gradients.tasks.workers.preparing:survey"
TRIED_ROWS = "tried.jsonl"  # what PREPARE and SURVEY leave for a trial
SURVEYED_TEXTS = "texts.jsonl"  # what SURVEY leaves: one row's text a line, as JSON strings
MOST_RESULT_BYTES = 16 * 1024 * 1024  # of an entrant's: a number for each held-out row, and two sketches
CONTACT_SHEET = "contact-sheet.png"  # what a metric of images leaves beside its results, for people


class WorkerMessage(BaseModel):
    """Base of everything that is read from bytes: unknown keys are refused, values don't change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Entrant(WorkerMessage):
    """One model to measure."""

    id: str = Field(description="a hotkey, or 'base'")
    folder: Path | None = Field(default=None, description="screened repo folder; None measures the untouched base")


class MeasureJob(WorkerMessage):
    """Arguments of a metric function: all entrants on the same rows, the base loaded once."""

    base_folder: Path
    held_out_file: Path = Field(description="held-out rows, JSON lines, one a line")
    parameters: Parameters = Field(description="the task type's parameters in normal form")
    entrants: tuple[Entrant, ...]
    results_folder: Path = Field(description="one file <entrant id>.json each, written as soon as it is known")
    seed: int = Field(description="for metrics that sample; drawn after the deadline")
    blocks: tuple[tuple[int, ...], ...] = Field(
        default=(),
        description="places of rows in the file, measured block by block as if each were a file; none: all rows, together",
    )
    sketch_key: str = Field(
        default="", description="of the fingerprints' projections, secret; '' takes no fingerprints"
    )

    def reads(self) -> tuple[Path, ...]:
        """What its worker has to see; it writes to `results_folder`."""
        folders = (entrant.folder for entrant in self.entrants)
        return (self.base_folder, self.held_out_file, *(folder for folder in folders if folder is not None))


class HoldJob(WorkerMessage):
    """Arguments of HOLD: load a base for the jobs that come."""

    base_folder: Path
    base_digest: str = Field(description="of its files; another base in the same folder is held by another worker")
    family: Literal["language", "image"]
    on_gpu: bool = Field(description="whether the jobs will bring it to a GPU")


class EntrantResult(WorkerMessage):
    """One file that a metric function writes: a measurement, or a failure with whose fault it was."""

    entrant: str
    value: float | None = None
    stderr: float | None = None
    per_row: tuple[float, ...] = Field(
        default=(),
        description="the value of each held-out row, in the file's order, or of each row of the blocks, in theirs",
    )
    extras: dict[str, float] = Field(default_factory=dict)
    fingerprint: Fingerprint | None = Field(default=None, description="None for the base, and where there is none")
    failure_blame: Blame | None = None
    failure_code: str = ""
    failure_message: str = ""
    seconds: float = 0.0


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


class RepoCheckJob(WorkerMessage):
    """Arguments of CHECK_REPO: could this repo be measured?"""

    base_folder: Path
    repo_folder: Path
    family: Literal["language", "image"] = "language"


class RepoCheck(WorkerMessage):
    """What a repo that can be measured does."""

    changed: int = Field(description="weights of the base that it replaces")


class ExportJob(WorkerMessage):
    """Arguments of MERGE and PROMPT_LAYOUT."""

    base_folder: Path = Field(description="of PROMPT_LAYOUT any folder with the model's tokenizer")
    model_folder: Path = Field(description="a delivered adapter")
    target: Path = Field(description="where the merged model goes")
    family: Literal["language", "image"] = "language"


class ContinueJob(WorkerMessage):
    """Arguments of MAKE_BASE."""

    base_folder: Path = Field(description="of the task that is continued")
    submission: Path = Field(description="its winner's files, as they were screened and measured")
    target: Path = Field(description="where the new base goes; empty")
    family: Literal["language", "image"]


class PromptLayout(WorkerMessage):
    """What a model's chat template puts around the turns of one exchange, for programs that don't run chat templates."""

    before_system: str
    after_system: str = Field(description="up to the prompt")
    before_prompt: str = Field(description="where there is no system message")
    after_prompt: str = Field(description="up to where the answer begins")
    after_answer: str
    stop: str = Field(description="what ends an answer")


class KeepJob(WorkerMessage):
    """Arguments of KEEP: leave the train rows that a trainer keeps from training in `kept_file`."""

    train_file: Path = Field(description="train rows, JSON lines")
    kept_file: Path
    fraction: float = Field(ge=0, le=0.5, description="the plan's validation_fraction")
    seed: int = Field(description="the TrainJob's")
    most: int = Field(ge=1, description="rows to leave at most; a trainer may keep more, which begin with these")


class Kept(WorkerMessage):
    """What KEEP returns."""

    rows: int = Field(description="that are kept; none of a file with too few")
    of: int = Field(description="in the file")


class TrialJob(WorkerMessage):
    """Arguments of a type's `trial`: base and rows tried together before a task is offered."""

    base_folder: Path
    rows_file: Path = Field(description="some of the prepared rows, JSON lines")
    numbers: tuple[int, ...] = Field(default=(), description="where each stood in the source; empty when nobody knows")
    parameters: Parameters = Field(description="the task type's parameters in normal form")


class Lengths(WorkerMessage):
    """How long rows are, in one unit."""

    rows: int = Field(ge=1, description="that were looked at")
    shortest: int
    median: int
    most_of_95_percent: int = Field(description="95 of 100 rows are at most as long")
    longest: int
    histogram: tuple[tuple[int, int], ...] = Field(
        description="(longest length of a bar, rows in it), by powers of two from the shortest row's to the longest's"
    )

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Self:
        """The summary of at least one length."""
        ordered = sorted(lengths)
        bars = Counter(max(length - 1, 0).bit_length() for length in ordered)
        return cls(
            rows=len(ordered),
            shortest=ordered[0],
            median=ordered[(len(ordered) - 1) // 2],
            most_of_95_percent=ordered[math.ceil(0.95 * len(ordered)) - 1],
            longest=ordered[-1],
            histogram=tuple((2**bits, bars[bits]) for bits in range(min(bars), max(bars) + 1)),
        )


class TrialResult(WorkerMessage):
    """What a trial found fit."""

    rows: int = Field(description="that were tried")
    cut_rows: int = Field(description="of them, how many lose tokens to max_tokens or to what the base can read")
    tokens: Lengths | None = Field(default=None, description="of the rows that were tried, before anything is cut")
    loss: float | None = Field(
        description="of the base on a few short rows, nats a token; None for a base too large to ask"
    )


class ThroughputJob(WorkerMessage):
    """Arguments of MEASURE_THROUGHPUT: how fast a base is trained on here."""

    base_folder: Path
    texts_file: Path = Field(description="one row's text a line, as JSON strings")
    max_tokens: int = Field(ge=1, description="longer rows are cut")
    batch_rows: int = Field(default=8, ge=1)
    seconds: float = Field(default=2.0, gt=0, description="how long to look, but for three steps at least")


class Throughput(WorkerMessage):
    """What MEASURE_THROUGHPUT returns."""

    tokens_per_row: float = Field(gt=0, description="mean over the rows, as they were read")
    tokens_per_second: float = Field(gt=0, description="of rows, without padding")
    steps: int
    device: str


class ReadJob(WorkerMessage):
    """What workers on customers' data are told: the request, and where its sources lie after they were fetched."""

    declaration: str = Field(description="the task type as 'module:NAME', which its worker need not look for")
    request: dict[str, JsonValue] = Field(description="a TaskRequest's fields")
    fetched: tuple[Path, ...] = Field(description="see gradients/tasks/preparation.py")

    def reads(self) -> tuple[Path, ...]:
        """What its worker has to see."""
        return self.fetched


class JudgeJob(WorkerMessage):
    """Arguments of a type's `judge`: what a customer's rewards say of answers, before a task is posted."""

    parameters: Parameters = Field(description="the task type's parameters in normal form")
    rows: tuple[dict[str, JsonValue], ...] = Field(min_length=1, description="as they stand in the source")
    answers: tuple[tuple[str, ...], ...] | None = Field(
        default=None, description="to judge, for each row; None: nothing at all, and the row's own prompt"
    )


class JudgedAnswer(WorkerMessage):
    """One answer under all rewards."""

    answer: str
    reward: float = Field(description="the weighted mean, 0 to 1")
    scores: tuple[float | None, ...] = Field(description="of each reward, 0 to 1; None where it failed on this answer")
    failures: tuple[str, ...] = Field(description="how rewards failed on it")


class JudgedRow(WorkerMessage):
    """A row and its answers."""

    row: int = Field(description="its number among those that were given, from 1")
    prompt: str
    answers: tuple[JudgedAnswer, ...]


class JudgeResult(WorkerMessage):
    """What a type's `judge` returns."""

    rewards: tuple[str, ...] = Field(description="the kind of each reward, in the order of the parameters")
    rows: tuple[JudgedRow, ...] = Field(description="those that a task would keep")


class PrepareJob(ReadJob):
    """Arguments of PREPARE: leave train and held-out rows in `folder`."""

    salt: str = Field(description="hex")
    folder: Path
    show_rows: int = Field(default=0, ge=0, description="synthetic rows that somebody is to be asked for")
    written: tuple[JsonValue, ...] = Field(default=(), description="synthetic rows as they came")
    most_held_out: int | None = Field(default=None, description="rows held out at most, where the type can be raced")


class PrepareResult(WorkerMessage):
    """What PREPARE returns: counts. The files speak for themselves."""

    train_rows: int = Field(ge=1)
    held_out_rows: int = Field(ge=1)
    made_up_rows: int = Field(ge=0)
    removed: tuple[tuple[str, int], ...]
    sources: tuple[SourceCount, ...] = Field(default=(), description="of several data sets, in their order")
    shown: tuple[tuple[str, ...], ...] = Field(default=(), description="train rows to show, for each request")


class SurveyJob(ReadJob):
    """Arguments of SURVEY: count the rows, and leave a sample of their texts."""

    folder: Path
    most_compared: int = Field(
        default=0, ge=0, description="rows up to which near-duplicates are looked for as PREPARE does"
    )
    shown_rows: int = Field(default=0, ge=0, description="of the rows in their normal form, how many to return")
    most_shown_characters: int = Field(default=500, ge=1, description="of each text in them")
    sample_rows: int = Field(ge=1)
    longest_text: int = Field(ge=1, description="characters of one row in the sample")


class SurveyResult(WorkerMessage):
    """What SURVEY returns."""

    rows: int = Field(ge=1)
    tried: tuple[int, ...] = Field(description="where the rows for a trial stood in the source")
    removed: tuple[tuple[str, int], ...] = Field(default=(), description="what is left out, by reason")
    train_rows: int | None = Field(default=None, description="None where near-duplicates were not looked for")
    held_out_rows: int | None = Field(default=None, description="None with it")
    sources: tuple[SourceCount, ...] = Field(default=(), description="of several data sets, in their order")
    characters: Lengths | None = Field(default=None, description="of the rows' texts")
    shown: tuple[JsonValue, ...] = Field(default=(), description="rows in their normal form, long texts cut")
