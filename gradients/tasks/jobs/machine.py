"""What the machine is: its devices, and how fast it is."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from gradients.tasks.jobs.message import WorkerMessage

FIND_DEVICES = "gradients.tasks.workers.devices:find"
MEASURE_THROUGHPUT = "gradients.tasks.workers.throughput:measure"


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
