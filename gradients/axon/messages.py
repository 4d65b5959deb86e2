"""What validators and miners say to each other over HTTP, version 1. Every message is signed by its sender (see auth.py)."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from gradients.bases.continued import FILE_PATH
from gradients.domain.json import canonical
from gradients.texts import harmless

PROTOCOL_VERSION: Literal[1] = 1
LONGEST_OFFER_HOURS = 240  # what a message can say; what customers may ask for is less

MOST_BASE_FILES = 1000

# Words for people. Whoever sends longer ones is refused; what is in them is made harmless on the way in, and out.
Name = Annotated[str, Field(max_length=64), AfterValidator(partial(harmless, most=64))]
Words = Annotated[str, Field(max_length=500), AfterValidator(partial(harmless, most=500))]


class Message(BaseModel):
    """Unknown keys are refused, values don't change, and the version is part of every message."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = PROTOCOL_VERSION


class BlobName(BaseModel):
    """Bytes named by what they hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)


class Offer(Message):
    """Validator to miner, POST /v1/offers: would you train this?"""

    task_id: str = Field(pattern=r"^[a-z]{2,12}-[0-9a-f]{12}$")
    type: str = Field(max_length=32)
    base: str = Field(max_length=256)
    base_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    base_parameters: int = Field(ge=1)
    train_rows: int = Field(ge=1)
    hours: float = Field(gt=0, le=LONGEST_OFFER_HOURS)
    needs_sandbox: bool = Field(default=False, description="training runs programs that strangers wrote")


class OfferAnswer(Message):
    """Miner to validator: yes or no, and why."""

    accepted: bool
    reason: Words = ""
    recipe: Name = Field(default="", description="shown to people, never used")
    fetching: bool = Field(default=False, description="a no for now: the base is on its way to the miner")


class BaseListing(Message):
    """Validator to anybody registered, at the validator's axon, GET /v1/bases/{base_digest}: the files of a base that nobody else has.

    They lie at GET /v1/data/{sha256}. The digest is sha256 over the canonical JSON of [path, sha256] of each, in the order of the paths.
    """

    base_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    files: dict[Annotated[str, Field(pattern=FILE_PATH)], BlobName] = Field(min_length=1, max_length=MOST_BASE_FILES)


class Start(Message):
    """Validator to miner, POST /v1/tasks: train now. The train rows lie at the validator's axon, GET /v1/data/{sha256}."""

    offer: Offer
    parameters: dict[str, JsonValue]
    train: BlobName
    held_out_commitment: str = Field(pattern=r"^[0-9a-f]{64}$", description="binds the validator to its held-out rows")
    started_at_block: int = Field(ge=0)
    deadline_block: int = Field(ge=0, description="the last block in which a commitment counts")
    reveal_until_block: int = Field(ge=0)
    draw_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="binds the validator to what it drew the pool from")
    seed: int = Field(ge=0, lt=2**63, description="this miner's own, so that honest runs differ")

    @property
    def terms_sha256(self) -> str:
        """What a manifest names these terms by, as hex."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()


class StartAnswer(Message):
    """Miner to validator: whether it has begun. The same Start twice is answered twice and begun once."""

    accepted: bool
    reason: Words = ""


class Reach(Message):
    """Anybody registered to a peer, POST /v1/reach: does my address lead to me, seen from where you are?"""

    ip: str = Field(max_length=45)
    port: int = Field(ge=1, le=65535)
    body_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of what is answered to GET /livez there")


class ReachAnswer(Message):
    """Whether it does; otherwise what came of the trial."""

    reached: bool
    reason: Words = ""


class AttemptStatus(Message):
    """Miner to validator, GET /v1/tasks/{task_id}: how far the training is.

    For people to see; only `failed` has a consequence: a validator that was refused the submission does not ask for it again, and when all
    miners of a task say so, its time is over.
    """

    task_id: str
    phase: Literal["queued", "loading", "probing", "training", "saving", "committed", "failed"]
    recipe: Name
    fraction: float = Field(ge=0, le=1)
    step: int = Field(default=0, ge=0)
    loss: float | None = None
    problem: Words = ""


class ProofStepMessage(BaseModel):
    """One sibling on the way from the leaf to the committed root; those that are not named have no leaves below them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    height: int = Field(ge=0, lt=256, description="0 stands beside the leaf")
    sibling: str = Field(pattern=r"^[0-9a-f]{64}$")


class Reveal(Message):
    """Miner to validator, GET /v1/tasks/{task_id}/submission, answered only after the deadline block.

    The files then lie at GET /v1/tasks/{task_id}/files/{name}, which takes byte ranges.
    """

    task_id: str
    manifest: str = Field(
        max_length=1_000_000, description="the manifest's exact text; its sha256 is in the committed leaf"
    )
    salt: str = Field(pattern=r"^[0-9a-f]{64}$")
    proof: tuple[ProofStepMessage, ...] = Field(max_length=64)
    start: Start | None = Field(
        default=None, description="the terms that the manifest names, so that others can read what was told"
    )


class Outcome(Message):
    """Validator to miner, at the validator's axon, GET /v1/tasks/{task_id}/outcome, once the task has ended: the asker's own result."""

    task_id: str
    state: Literal["scored", "failed"] = Field(description="a task that has failed has no scores; `reason` says why")
    metric: str = Field(default="", max_length=64)
    unit: str = Field(default="", max_length=32)
    better: Literal["lower", "higher"] = "lower"
    base_loss: float | None = Field(default=None, description="the metric of the untouched base on the held-out rows")
    loss: float | None = Field(default=None, description="the metric of the miner's model; null without a measurement")
    stderr: float | None = Field(default=None, description="standard error of `loss`")
    gain: float | None = Field(default=None, description="how much better than the base, in parts of the base's value")
    rank: int | None = Field(
        default=None, description="place among the fine-tunes, 1 is best; null for what is not one"
    )
    ranked: int = Field(default=0, ge=0, description="number of fine-tunes")
    chance: float = Field(default=0.0, description="of being the task's best model, 0 to 1")
    prize: float = Field(default=0.0, description="the chance times the task's size: what weights add up")
    share: float | None = Field(
        default=None,
        description="the miner's share of the newest weights that count this task in; null until some do",
    )
    reason: Annotated[str, AfterValidator(partial(harmless, most=1000))] = Field(
        max_length=1000, description="one sentence for the miner"
    )


class Refusal(Message):
    """Any answer that is not 2xx: a stable code and what to do."""

    code: str = Field(pattern=r"^[A-Za-z0-9_]{1,64}$")
    message: Annotated[str, AfterValidator(harmless)]
