"""What stands in the public record, version 1. A change of what a field means is a new format.

Bytes come from a validator that may cheat: unknown keys are refused, and so are NaN and infinity.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from gradients.axon.messages import BlobName
from gradients.errors import Blame

FORMAT: Literal["gradients-record/1"] = "gradients-record/1"
FIRST_PREVIOUS = "0" * 64  # what the first record names as the one before it

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
BlockHash = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{64}$")]
Block = Annotated[int, Field(ge=0)]
Kind = Literal["task", "weights", "season"]


class Part(BaseModel):
    """Base of everything in a record."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class RequestPart(Part):
    """What was asked for."""

    type: str
    base: str
    dataset: dict[str, JsonValue] | None = Field(description="where the rows come from; withheld of private tasks")
    parameters: dict[str, JsonValue] = Field(description="of private tasks as miners are told them")
    hours: float
    private: bool


class ParentPart(Part):
    """Where the base of a task comes from that continues another: that task's winner, merged with its own base."""

    task_id: str
    hotkey: str = Field(description="the winner's")
    manifest_sha256: Sha256 = Field(description="of what it had committed to in that task")
    base_digest: Sha256 = Field(description="of the base that it was trained from")
    files: dict[str, Sha256] = Field(description="of the merged model, by path; data.base_digest is over them")


class DataPart(Part):
    """What was trained and measured on; the files of tasks that are not private are served by digest."""

    base_digest: Sha256
    base_parameters: int
    train: BlobName
    held_out: BlobName
    train_rows: int
    held_out_rows: int
    made_up_rows: int = Field(description="of the held-out ones, the last so many")
    held_out_commitment: Sha256 = Field(
        description="over salt, held-out rows and request; miners were told it at the start"
    )
    parent: ParentPart | None = Field(default=None, description="of a task that continues another")


class BlocksPart(Part):
    """Between which blocks the task ran."""

    started_at_block: Block
    deadline_block: Block
    reveal_until_block: Block
    deadline_hash: BlockHash = Field(description="of the deadline block: every seed of scoring comes from it")


class MetricPart(Part):
    """Which number was measured."""

    name: str
    unit: str
    version: int
    better: Literal["lower", "higher"]


class AnswerPart(Part):
    """A miner's reveal as it was signed: manifest, salt and proof are in its body. See gradients/axon/evidence.py."""

    body: str
    target: str
    nonce_ns: int
    signature: str


class CommitmentPart(Part):
    """What stood on chain at the deadline block, and what opens it."""

    block: Block
    block_hash: BlockHash
    extrinsic: int | None = Field(description="index in the block, where the chain told it")
    payload: str = Field(pattern=r"^[0-9a-f]{2,256}$", description="hex")
    answer: AnswerPart


class FingerprintPart(Part):
    """What the submission changed in the base."""

    update: tuple[float, ...]
    outputs: tuple[float, ...]


class MeasurementPart(Part):
    """An entrant on the held-out rows."""

    value: float
    stderr: float
    per_row: tuple[float, ...] = Field(
        description="in the file's order; of the first rows of the race where it stopped"
    )
    fingerprint: FingerprintPart | None
    rows_of: int | None = Field(
        default=None, ge=1, description="of an entrant that stopped early: how many held-out rows there are"
    )


class EntrantPart(Part):
    """The base, or a miner of the pool."""

    entrant: str
    start_seed: int | None = Field(
        description="seed(salt, 'start', hotkey), which the miner was told; the base has none"
    )
    commitment: CommitmentPart | None
    measurement: MeasurementPart | None
    fault: Blame | None = Field(description="whose fault it is that there is no measurement")
    code: str = Field(description="why there is none; the validator's word")


class PlacingPart(Part):
    """A miner's result."""

    hotkey: str
    rank: int | None
    points: float
    adjusted_points: float
    gain: float | None
    copy_of: str | None
    fault: Blame | None


class TaskBody(Part):
    """A scored task."""

    netuid: int
    task_id: str
    customer: str = Field(description="'schedule', or the first task in the record of the same customer")
    request: RequestPart
    data: DataPart
    salt: Sha256 | None = Field(description="decides split, draw and seeds; withheld of private tasks")
    blocks: BlocksPart
    draw: dict[str, JsonValue] | None = Field(description="all that went into the draw of the pool")
    sketch_commitment: Sha256 = Field(description="of the season's secret, from which the fingerprints' keys come")
    metric: MetricPart
    metric_seed: int | None = Field(description="seed(salt, 'measure', deadline hash); withheld of private tasks")
    entrants: tuple[EntrantPart, ...] = Field(min_length=1, description="the base, then the pool by hotkey")
    rules_version: int
    placings: tuple[PlacingPart, ...]
    versions: dict[str, str] = Field(description="what measured: our version, libraries, processor")


class SeasonBody(Part):
    """The secret of a season that is over: from now on its fingerprints can be taken again by anybody."""

    season: int = Field(ge=0)
    secret: Sha256


class WeightsBody(Part):
    """The weights of one epoch, as they went to the chain."""

    netuid: int
    epoch_block: Block = Field(description="in which the epoch before ended")
    decided_at_block: Block
    rules_version: int
    tasks: tuple[str, ...] = Field(description="ids of the tasks that went into the standing, recorded before")
    shares: dict[str, float] = Field(description="hotkey -> share of the standing")
    sent: dict[str, JsonValue] = Field(description="uids and u16 values, the subnet's limits, and what they changed")
    landed_at_block: Block


class Record(Part):
    """One link of a validator's chain of records."""

    format: Literal["gradients-record/1"] = Field(default=FORMAT, description="what the fields mean")
    seq: int = Field(ge=1, description="its place, counted from 1 without gaps")
    kind: Kind = Field(description="a scored task, or an epoch's weights")
    validator: str = Field(description="hotkey of whoever signed it")
    previous_sha256: Sha256 = Field(description="of the record before it; 64 zeros for the first")
    body: dict[str, JsonValue] = Field(description="a TaskBody or a WeightsBody, see gradients/record/models.py")
    sha256: Sha256 = Field(description="of everything above as canonical JSON")
    signature: str = Field(description="sr25519, hex, over 'gradients-record/1:' and the sha256")


class RecordPage(Part):
    """Some records in their order."""

    records: tuple[Record, ...] = Field(description="oldest first")
    last_seq: int = Field(ge=0, description="of the newest record there is")
