"""A large table of text is prepared in memory that goes by its rows, not by what they say."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from gradients.execution.job import Job, JobLimits
from gradients.execution.process import ProcessExecutor
from gradients.tasks.instruct.spec import INSTRUCT
from gradients.tasks.jobs.rows import PREPARE, PrepareJob, PrepareResult
from gradients.tasks.preparation import fetch_sources
from gradients.tasks.registry import TYPES, validate_request
from scripts.benchmarks.preparing import write_table

MEBIBYTES = 64
ADDRESS_SPACE = 768 * 1024**2  # Python and its libraries have 300 MiB of it; with the rows in memory this took 1.5 GiB


@pytest.mark.slow
def test_a_table_of_64_mebibytes_is_prepared_within_768_of_address_space(tmp_path: Path) -> None:
    table, folder = tmp_path / "rows.csv", tmp_path / "prepared"
    rows = write_table(table, MEBIBYTES)
    request = validate_request({"type": INSTRUCT.name, "base": "nano-lm", "dataset": str(table), "hours": 1})
    asked = PrepareJob(
        declaration=TYPES[INSTRUCT.name],
        request=dataclasses.asdict(request),
        fetched=tuple(fetch_sources(INSTRUCT, request, tmp_path / "fetched")),
        salt="00" * 32,
        folder=folder,
    )
    job = Job(
        PREPARE,
        asked.model_dump(mode="json"),
        tmp_path / "job",
        deadline_seconds=1200,
        writes=(folder,),
        limits=JobLimits(memory_bytes=ADDRESS_SPACE),
    )
    made = PrepareResult.model_validate(asyncio.run(ProcessExecutor().run(job, report=lambda _: None)))
    assert made.train_rows + made.held_out_rows == rows
    assert made.held_out_rows == 400
