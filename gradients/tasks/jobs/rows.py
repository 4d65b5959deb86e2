"""Reading a customer's rows: surveyed for an estimate, prepared for a task, tried with the base."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import Field, JsonValue

from gradients.domain.task import SourceCount
from gradients.tasks.jobs.message import Parameters, WorkerMessage

PREPARE = "gradients.tasks.workers.preparing:prepare"
SURVEY = "gradients.tasks.workers.preparing:survey"
TRIED_ROWS = "tried.jsonl"  # what PREPARE and SURVEY leave for a trial
SURVEYED_TEXTS = "texts.jsonl"  # what SURVEY leaves: one row's text a line, as JSON strings


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


class ReadJob(WorkerMessage):
    """What workers on customers' data are told: the request, and where its sources lie after they were fetched."""

    declaration: str = Field(description="the task type as 'module:NAME', which its worker need not look for")
    request: dict[str, JsonValue] = Field(description="a TaskRequest's fields")
    fetched: tuple[Path, ...] = Field(description="see gradients/tasks/preparation.py")

    def reads(self) -> tuple[Path, ...]:
        """What its worker has to see."""
        return self.fetched


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
