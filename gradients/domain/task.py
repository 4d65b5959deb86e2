"""A fine-tuning task from a customer's spec to its score."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from gradients.domain.failure import Failure
from gradients.domain.json import JsonObject
from gradients.errors import LedgerConflict

TaskId = NewType("TaskId", str)
Hotkey = NewType("Hotkey", str)


class TaskState(StrEnum):
    """What is true of a task. Work in progress is a lease beside the state, never a state."""

    DRAFT = "draft"  # accepted from the customer
    OPEN = "open"  # data prepared, split and published by digest
    ASSIGNED = "assigned"  # miners have started; the deadline block is set
    COLLECTED = "collected"  # every submission is here or has failed
    MEASURED = "measured"  # every entrant has a measurement or a failure
    SCORED = "scored"  # points are given
    FAILED = "failed"  # ended without scores; `Task.failure` says why
    CANCELLED = "cancelled"  # its customer took it back before miners were drawn

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the task."""
        return self in (TaskState.SCORED, TaskState.FAILED, TaskState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes named by what they hold."""

    sha256: str  # lower-case hex
    size_bytes: int


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """What a customer asks for, already checked against the schema of its task type."""

    type: str  # name of a task type, such as "instruct"
    base: str  # a shipped base ("nano-lm"), a local folder, a Hub id with optional "@revision", or "task:" and a task's id
    dataset: JsonObject  # where the rows come from; see gradients/datasets/sources.py
    parameters: JsonObject  # the task type's own part, in its normal form
    hours: float  # training budget of each miner
    private: bool = True  # whether rows, salt and models stay out of the public record


@dataclass(frozen=True, slots=True)
class SourceCount:
    """What became of one of several data sets that were merged."""

    rows: int  # in it
    taken: int  # by its limit or weight
    usable: int  # of these, in the type's normal form
    repeated: int  # of these, that say what a row of an earlier data set says
    train_rows: int | None  # None where nothing was split
    held_out_rows: int | None


@dataclass(frozen=True, slots=True)
class Parent:
    """Where the base of a task comes from that goes on from another: that task's winner, merged with its base."""

    task_id: TaskId
    hotkey: Hotkey  # the winner's
    manifest_sha256: str  # of what it handed in
    base_digest: str  # of the base that it was trained from
    files: tuple[tuple[str, Blob], ...]  # of the merged model, by path; the new base's digest is over them


@dataclass(frozen=True, slots=True)
class Prepared:
    """What preparation left behind: two files by digest and what was removed on the way."""

    base_digest: str  # sha256 over the base model's files
    base_parameters: int  # number of weights of the base
    train: Blob  # rows that miners get, JSON lines
    held_out: Blob  # rows that nobody else has seen, JSON lines
    train_rows: int
    held_out_rows: int
    held_out_commitment: str  # over salt, held-out rows and request, told to miners before the start
    removed: tuple[tuple[str, int], ...]  # reason -> number of rows, in the order of the steps
    made_up_rows: int = 0  # of the held-out ones, the last so many; written by a language model
    tried_rows: int = 0  # with the base, before the task was offered
    cut_rows: int = 0  # of these, how many lose tokens to max_tokens or to what the base can read
    sources: tuple[SourceCount, ...] = ()  # of several data sets, in their order; none of one alone
    parent: Parent | None = None  # of a task that goes on from another


@dataclass(frozen=True, slots=True)
class Window:
    """The blocks between which a task runs."""

    started_at_block: int
    deadline_block: int  # the last block in which a commitment counts
    reveal_until_block: int  # submissions not fetched by then have failed


@dataclass(frozen=True, slots=True)
class Task:
    """One task as the ledger knows it."""

    id: TaskId
    request: TaskRequest
    state: TaskState
    created_at: float
    prepared: Prepared | None = None
    window: Window | None = None
    draw: JsonObject | None = None  # all that went into the draw of the pool
    failure: Failure | None = None

    @property
    def data(self) -> Prepared:
        """What preparation left behind. Raises LedgerConflict for a task that is not prepared."""
        if self.prepared is None:
            raise LedgerConflict(f"Task {self.id} is {self.state} but has no prepared data")
        return self.prepared

    @property
    def blocks(self) -> Window:
        """Between which blocks the task runs. Raises LedgerConflict for a task that has not started."""
        if self.window is None:
            raise LedgerConflict(f"Task {self.id} is {self.state} but has no blocks")
        return self.window
