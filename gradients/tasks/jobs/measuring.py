"""Measuring entrants, and holding a base for it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from gradients.domain.evaluation import Fingerprint
from gradients.errors import Blame
from gradients.tasks.jobs.message import Parameters, WorkerMessage

HOLD = "gradients.tasks.workers.holding:hold"
MOST_RESULT_BYTES = 16 * 1024 * 1024  # of an entrant's: a number for each held-out row, and two sketches
CONTACT_SHEET = "contact-sheet.png"  # what a metric of images leaves beside its results, for people


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
