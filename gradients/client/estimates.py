"""What the API says of a task before it is posted: hours, memory, and what preparation will make of its data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from gradients.client.models import Answer, Shown, SourceReport
from gradients.tasks.registry import LONGEST_REQUEST_HOURS, TaskSpec


class EstimateSpec(Shown, TaskSpec):
    """A task spec whose hours are wanted, so that they need not be given."""

    hours: float = Field(default=LONGEST_REQUEST_HOURS, description="plays no part in an estimate")


class MeasuredSpeed(Answer):
    """A few training steps of the base model on the validator's machine."""

    tokens_per_row: float = Field(description="mean number of tokens of a row")
    tokens_per_second: float = Field(description="tokens of rows, without padding, that were trained on in a second")
    steps: int = Field(description="training steps that were measured")
    device: str = Field(description="what they ran on, such as 'cpu'")


class RowsHours(Answer):
    """The budgets that the market gave before, by the number of rows alone."""

    shortest: int = Field(description="in hours")
    longest: int = Field(description="in hours")
    source: str = Field(description="who says so")


class LengthBar(Answer):
    """Rows of about one length."""

    up_to: int = Field(description="the longest length of the bar; the bar before it ends at half of it")
    rows: int = Field(description="how many rows are in it")


class LengthReport(Answer):
    """How long rows are, in one unit."""

    rows: int = Field(description="rows that were looked at")
    shortest: int = Field(description="length of the shortest row")
    median: int = Field(description="length of the row in the middle")
    most_of_95_percent: int = Field(description="95 of 100 rows are at most as long")
    longest: int = Field(description="length of the longest row")
    histogram: tuple[LengthBar, ...] = Field(description="by powers of two, shortest first")


class DataReport(Answer):
    """What preparation will make of a data set."""

    rows: int = Field(description="rows that were read")
    removed: dict[str, int] = Field(description="how many rows, or turns of conversations, will be left out, by reason")
    train_rows: int | None = Field(
        description="rows that miners will get, about: which are held out is drawn when the task is prepared; "
        "null for a data set too large to look for near-duplicates before that"
    )
    held_out_rows: int | None = Field(description="rows that will be held out; null with `train_rows`")
    sources: tuple[SourceReport, ...] = Field(
        default=(), description="of several data sets that are merged, each; empty for one alone"
    )
    characters: LengthReport = Field(description="characters of all texts of a row")
    tokens: LengthReport | None = Field(
        description="tokens of a row before it is cut, of the rows that were tried (all of a small set; of a large one the longest "
        "and others from one end to the other); null where nothing is tried"
    )
    samples: tuple[JsonValue, ...] = Field(
        description="some rows as they will be trained on, with long texts cut: what the mapping of columns made of them"
    )


class TrainingMemory(Answer):
    """What training takes of a GPU's memory, reckoned from the base's shape and the longest row that is read."""

    method: Literal["lora", "full"] = Field(description="which weights train: an adapter of rank 32, or all")
    gpu_gib: int | None = Field(description="GiB of the smallest GPU that holds it; null where no single one does")


class Estimate(Answer):
    """What a task would take."""

    type: str = Field(description="name of the task type")
    base: str = Field(description="the base model")
    rows: int = Field(description="rows of the data set that are usable and distinct")
    tokens: int | None = Field(description="tokens of one pass over the rows; null where hours don't depend on them")
    parameters: int = Field(description="number of weights of the base model")
    gpus: int = Field(description="number of devices that the hours are for")
    tokens_per_second: float | None = Field(description="assumed speed of all devices; null where it plays no part")
    measured: MeasuredSpeed | None = Field(description="what was measured; null where the hours come from a rule alone")
    hours: float = Field(description="training budget that each miner should get")
    hours_by_rows: RowsHours = Field(description="for comparison")
    data: DataReport | None = Field(default=None, description="what will become of the rows")
    tried_rows: int = Field(default=0, description="rows that were tried with the base")
    cut_rows: int = Field(default=0, description="how many of these lose tokens to max_tokens or to the base's context")
    memory: tuple[TrainingMemory, ...] = Field(
        default=(),
        description="by what is trained, with layers computed again; of pictures a LoRA, if the base tells its shape",
    )
