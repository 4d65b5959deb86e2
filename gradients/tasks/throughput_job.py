"""What crosses the border to the worker that measures how fast a base is trained on; see throughput.py."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from gradients.tasks.jobs import Wire

MEASURE = "gradients.tasks.throughput:measure"


class ThroughputJob(Wire):
    """Arguments of `measure`."""

    base_folder: Path
    texts_file: Path = Field(description="one row's text a line, as JSON strings")
    max_tokens: int = Field(ge=1, description="longer rows are cut")
    batch_rows: int = Field(default=8, ge=1)
    seconds: float = Field(default=2.0, gt=0, description="how long to look, but for three steps at least")


class Throughput(Wire):
    """What `measure` returns."""

    tokens_per_row: float = Field(gt=0, description="mean over the rows, as they were read")
    tokens_per_second: float = Field(gt=0, description="of rows, without padding")
    steps: int
    device: str
