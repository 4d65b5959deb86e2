"""The contract of Executor, for every adapter."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from gradients.domain.json import JsonObject
from gradients.errors import DatasetInvalid, JobFailed, SubmissionRejected
from gradients.execution.inline import InlineExecutor
from gradients.execution.job import Executor, Held, Job, ReportProgress
from gradients.execution.process import ProcessExecutor
from gradients.execution.records import LEFT, RESULT
from gradients.execution.warm import WarmExecutor

FUNCTIONS = "gradients.testing.worker_functions"


class Warm:
    """A WarmExecutor for each run, since every test's run has a loop of its own; all jobs hold something."""

    async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
        with tempfile.TemporaryDirectory() as folder:
            executor = WarmExecutor(ProcessExecutor(), Path(folder), sandboxed=False)
            try:
                return await executor.run(replace(job, holds=Held(f"{FUNCTIONS}:hold", {})), report=report)
            finally:
                await executor.close()


@pytest.fixture(params=[InlineExecutor, ProcessExecutor, Warm])
def executor(request: pytest.FixtureRequest) -> Executor:
    made: Executor = request.param()
    return made


def job(folder: Path, function: str, arguments: JsonObject | None = None) -> Job:
    return Job(function=f"{FUNCTIONS}:{function}", arguments=arguments or {}, folder=folder, deadline_seconds=600)


def run(executor: Executor, job: Job) -> tuple[JsonObject, list[JsonObject]]:
    progress: list[JsonObject] = []
    return asyncio.run(executor.run(job, report=progress.append)), progress


def test_a_job_returns_what_its_function_returns(executor: Executor, tmp_path: Path) -> None:
    arguments: JsonObject = {"text": "ünïcode\n", "number": 0.1, "nothing": None, "list": [1, {"a": True}]}
    result, _ = run(executor, job(tmp_path / "job", "echo", arguments))
    assert result == {"arguments": arguments}


def test_all_progress_arrives_in_order_before_the_result(executor: Executor, tmp_path: Path) -> None:
    _, progress = run(executor, job(tmp_path, "count", {"steps": 2000}))
    assert progress == [{"step": step} for step in range(1, 2001)]


def test_a_miners_failure_crosses_the_border_with_code_and_fix(executor: Executor, tmp_path: Path) -> None:
    with pytest.raises(SubmissionRejected) as caught:
        run(executor, job(tmp_path, "refuse"))
    assert (caught.value.code, caught.value.fix) == ("tensor_not_finite", "Train with a smaller learning rate")
    assert caught.value.message == "a tensor holds NaN"


def test_a_customers_failure_crosses_the_border_with_its_rows(executor: Executor, tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid) as caught:
        run(executor, job(tmp_path, "find_bad_rows"))
    assert caught.value.rows == (3, 7)
    assert caught.value.code == "dataset_invalid"


def test_an_unnamed_error_is_the_validators_fault(executor: Executor, tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="the ceiling came down") as caught:
        run(executor, job(tmp_path, "crash"))
    assert caught.value.code == "job_crashed"


def test_a_result_that_is_no_json_is_a_crash_not_a_result(executor: Executor, tmp_path: Path) -> None:
    with pytest.raises(JobFailed):
        run(executor, job(tmp_path, "return_nan"))
    assert not (tmp_path / RESULT).exists()


@pytest.mark.parametrize("name", ["no.such.module:run", f"{FUNCTIONS}:no_such_function", f"{FUNCTIONS}:__doc__"])
def test_a_function_that_is_not_there_is_named_in_the_error(executor: Executor, tmp_path: Path, name: str) -> None:
    with pytest.raises(JobFailed, match=name) as caught:
        run(executor, Job(function=name, arguments={}, folder=tmp_path, deadline_seconds=600))
    assert caught.value.code == "function_unknown"


def test_a_finished_job_is_not_run_again(executor: Executor, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    twice = [run(executor, job(tmp_path / "job", "echo", {"runs": str(runs)}))[0] for _ in range(2)]
    assert twice[0] == twice[1]
    assert runs.read_text().count("ran") == 1


def test_other_arguments_in_the_same_folder_are_another_job(executor: Executor, tmp_path: Path) -> None:
    first, _ = run(executor, job(tmp_path, "echo", {"n": 1}))
    second, _ = run(executor, job(tmp_path, "echo", {"n": 2}))
    assert (first, second) == ({"arguments": {"n": 1}}, {"arguments": {"n": 2}})


def test_an_old_failure_does_not_stand_in_the_way_of_a_new_run(executor: Executor, tmp_path: Path) -> None:
    with pytest.raises(SubmissionRejected):
        run(executor, job(tmp_path, "refuse"))
    result, _ = run(executor, job(tmp_path, "echo", {"n": 1}))
    assert result == {"arguments": {"n": 1}}


def test_a_torn_result_counts_as_none(executor: Executor, tmp_path: Path) -> None:
    (tmp_path / LEFT).mkdir()
    (tmp_path / RESULT).write_text('{"digest": "abc", "resu')
    result, _ = run(executor, job(tmp_path, "echo", {"n": 1}))
    assert result == {"arguments": {"n": 1}}
