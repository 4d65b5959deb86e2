"""Customers' data in a worker of its own: what it wants too much of is the customer's fault, what the machine lacks is ours."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path

import pytest

from gradients.datasets.access import OUTSIDERS
from gradients.domain.json import JsonObject
from gradients.errors import DatasetInvalid, GradientsError, JobFailed
from gradients.execution.job import Executor, Job, ReportProgress
from gradients.execution.process import ProcessExecutor
from gradients.tasks.jobs.rows import PREPARE, PrepareJob
from gradients.tasks.preparation import fetch_sources, prepare
from gradients.tasks.registry import TYPES, task_type, validate_request
from gradients.testing.sandboxes import reason_to_skip
from validator.settings import ReadingSettings
from validator.specs.reading import read_data

ROWS = [{"instruction": f"Which letter has number {i}?", "output": f"It is letter {i}"} for i in range(80)]
SALT = bytes(range(32))
WORKERS = ProcessExecutor(sandboxed=not reason_to_skip())


class Ending:
    """An executor whose worker ends in one way."""

    def __init__(self, code: str) -> None:
        self.code = code

    async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
        raise JobFailed("it ended", code=self.code)


def asked(file: Path, folder: Path) -> PrepareJob:
    request = validate_request({"type": "instruct", "base": "nano-lm", "dataset": str(file), "hours": 0.1})
    fetched = fetch_sources(task_type("instruct"), request, folder / "fetched", access=OUTSIDERS)
    return PrepareJob(
        declaration=TYPES["instruct"],
        request=dataclasses.asdict(request),
        fetched=tuple(fetched),
        salt=SALT.hex(),
        folder=folder / "rows",
    )


def read(file: Path, folder: Path, executor: Executor, **limits: int) -> JsonObject:
    settings = ReadingSettings(**limits)
    return asyncio.run(read_data(executor, PREPARE, asked(file, folder), folder=folder / "job", settings=settings))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    return file


def test_a_worker_leaves_the_same_bytes_as_preparing_in_this_process(rows: Path, tmp_path: Path) -> None:
    request = validate_request({"type": "instruct", "base": "nano-lm", "dataset": str(rows), "hours": 0.1})
    here = prepare(task_type("instruct"), request, salt=SALT, folder=tmp_path / "here")
    read(rows, tmp_path / "there", WORKERS)
    for file in (here.train_file, here.held_out_file):
        assert (tmp_path / "there" / "rows" / file.name).read_bytes() == file.read_bytes()


def test_what_is_wrong_with_the_rows_comes_back_with_their_numbers(rows: Path, tmp_path: Path) -> None:
    rows.write_text("\n".join(map(json.dumps, [*ROWS, {"instruction": "?", "output": "\ud83d"}])))
    with pytest.raises(DatasetInvalid) as refused:
        read(rows, tmp_path / "there", WORKERS)
    assert refused.value.rows == (81,)


def test_rows_that_want_more_memory_than_there_is_are_refused_at_once(rows: Path, tmp_path: Path) -> None:
    rows.write_text(
        '{"instruction": "?", "output": "x", "more": [' + '{"":0},' * 1_100_000 + "0]}"
    )  # 200 bytes for each seven
    with pytest.raises(DatasetInvalid, match="takes more than 320 MiB of memory") as refused:
        read(rows, tmp_path / "there", WORKERS, memory_mebibytes=320)
    assert refused.value.code == "dataset_too_dear"


@pytest.mark.parametrize(
    ("code", "whose"),
    [
        ("out_of_memory", DatasetInvalid),  # held by its limit
        ("job_slow", DatasetInvalid),
        ("job_aborted", DatasetInvalid),  # a parser broke
        ("job_killed", JobFailed),  # by the kernel, for want of the machine's memory
        ("job_deadline", JobFailed),  # the clock of a busy machine
        ("job_crashed", JobFailed),  # a flaw of ours
    ],
)
def test_only_what_would_end_the_same_way_again_is_the_customers(
    rows: Path, tmp_path: Path, code: str, whose: type[GradientsError]
) -> None:
    with pytest.raises(whose):
        read(rows, tmp_path / "there", Ending(code))


def test_a_broken_parser_is_told_from_a_kernel_without_memory(tmp_path: Path) -> None:
    codes = []
    for name in ("die", "abort"):
        job = Job(f"gradients.testing.worker_functions:{name}", {}, tmp_path / name, deadline_seconds=600)
        with pytest.raises(JobFailed) as failed:
            asyncio.run(WORKERS.run(job, report=lambda _: None))
        codes.append(failed.value.code)
    assert codes == ["job_killed", "job_aborted"]
