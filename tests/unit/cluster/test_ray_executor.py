"""Jobs on a real cluster of this machine: they return, fail, end and are given up as jobs of this machine are."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from gradients.cluster.executor import RayExecutor
from gradients.domain.json import JsonObject
from gradients.errors import GradientsError, JobFailed, OutsideError, SubmissionRejected
from gradients.execution.job import WAITING, Held, Job
from gradients.testing.ray_cluster import CPUS, RayCluster

pytestmark = pytest.mark.slow
FUNCTIONS = "gradients.testing.worker_functions"
_Found = TypeVar("_Found")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, RayCluster(Path(folder)).running() as running:
        yield running


def job(folder: Path, function: str, arguments: JsonObject | None = None, *, deadline_seconds: float = 600) -> Job:
    return Job(f"{FUNCTIONS}:{function}", arguments or {}, folder, deadline_seconds=deadline_seconds)


def on(
    cluster: RayCluster,
    work: Callable[[RayExecutor], Awaitable[_Found]],
    *,
    token: str | None = None,
    patience_seconds: float = 600.0,
) -> _Found:
    async def main() -> _Found:
        environment = cluster.environment | ({"RAY_AUTH_TOKEN": token} if token else {})
        executor = RayExecutor(
            cluster.address,
            environment=environment,
            host="127.0.0.1",
            port=0,
            origin=None,
            sandboxed=False,
            patience_seconds=patience_seconds,
        )
        async with executor.serving():
            return await work(executor)

    return asyncio.run(main())


def failure(cluster: RayCluster, job: Job, **how: float) -> GradientsError:
    with pytest.raises(GradientsError) as caught:
        on(cluster, lambda executor: executor.run(job, report=lambda _: None), **how)  # type: ignore[arg-type]
    return caught.value


def test_results_progress_and_files_come_back(cluster: RayCluster, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ünï.txt").write_text("text")
    copying = replace(
        job(tmp_path / "copy", "read_and_write", {"reads": str(tmp_path / "in"), "writes": str(tmp_path / "out")}),
        reads=(tmp_path / "in",),
        writes=(tmp_path / "out",),
    )

    async def both(executor: RayExecutor) -> list[JsonObject]:
        told = list[JsonObject]()
        await executor.run(copying, report=told.append)
        assert told[0] is WAITING
        told.clear()
        result = await executor.run(job(tmp_path / "count", "count", {"steps": 500}), report=told.append)
        assert result == {"steps": 500}
        return told

    assert [each for each in on(cluster, both) if each is not WAITING] == [{"step": step} for step in range(1, 501)]
    assert (tmp_path / "out" / "ünï.txt").read_text() == "TEXT"
    assert not list(tmp_path.rglob("arriving-*"))


def test_a_result_that_is_there_is_adopted(cluster: RayCluster, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    asked = job(tmp_path / "job", "echo", {"runs": str(runs)})

    async def twice(executor: RayExecutor) -> list[JsonObject]:
        return [await executor.run(asked, report=lambda _: None) for _ in range(2)]

    first, second = on(cluster, twice)
    assert first == second
    assert runs.read_text() == "ran\n"


def test_jobs_on_one_base_share_a_worker(cluster: RayCluster, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "weights").write_text("weights")
    holds = Held(f"{FUNCTIONS}:hold", {"base": str(base)}, reads=(base,))

    async def in_turn(executor: RayExecutor) -> list[JsonObject]:
        return [
            await executor.run(
                replace(job(tmp_path / str(n), "show_held", {"n": n}), holds=holds, reads=(base,)),
                report=lambda _: None,
            )
            for n in range(CPUS + 1)
        ]

    held_by = dict[object, list[object]]()
    for shown in on(cluster, in_turn):
        held_by.setdefault(shown["parent"], []).append(shown["held"])
    assert len(held_by) <= CPUS  # Ray chooses the process, and has one for each core: so at least two jobs share one
    for held in held_by.values():
        assert held == held[:1] * len(held)  # each is a fork of the same worker, and sees nothing of the one before


@pytest.mark.parametrize(
    ("function", "kind", "code"),
    [
        ("refuse", SubmissionRejected, "tensor_not_finite"),
        ("crash", JobFailed, "job_crashed"),
        ("die", JobFailed, "job_killed"),
        ("use_up_memory", JobFailed, "out_of_memory"),
    ],
)
def test_errors_keep_their_class(
    cluster: RayCluster, tmp_path: Path, function: str, kind: type[GradientsError], code: str
) -> None:
    error = failure(cluster, job(tmp_path / "job", function))
    assert (type(error), error.code) == (kind, code)
    if function == "crash":
        assert "the ceiling came down" in (tmp_path / "job" / "stderr.log").read_text()
        assert str(tmp_path) in str(error.fix)


def test_a_deadline_holds_there(cluster: RayCluster, tmp_path: Path) -> None:
    assert failure(cluster, job(tmp_path, "sleep", deadline_seconds=2)).code == "job_deadline"


def test_who_is_given_up_brings_what_there_is(cluster: RayCluster, tmp_path: Path) -> None:
    asked = job(tmp_path / "job", "write_and_sleep", {"writes": str(tmp_path / "out")})
    asked = replace(asked, writes=(tmp_path / "out",))

    async def give_up(executor: RayExecutor) -> int:
        told = asyncio.Event()
        pid = list[int]()

        def hear(said: JsonObject) -> None:
            if isinstance(number := said.get("pid"), int):
                pid.append(number)
                told.set()

        running = asyncio.create_task(executor.run(asked, report=hear))
        await told.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return pid[0]

    pid = on(cluster, give_up)
    assert (tmp_path / "out" / "written").read_text() == "before"
    assert not Path(f"/proc/{pid}").exists()


def test_a_job_that_no_node_fits_is_told_so(cluster: RayCluster, tmp_path: Path) -> None:
    asked = replace(job(tmp_path, "echo"), devices=("H100/none/0", "H100/none/1"))
    error = failure(cluster, asked, patience_seconds=3.0)
    assert isinstance(error, OutsideError)
    assert error.code == "cluster_unfit"
    assert "2 GPUs" in error.message


def test_nobody_comes_in_with_another_token(cluster: RayCluster, tmp_path: Path) -> None:
    with pytest.raises(OutsideError) as caught:
        on(
            cluster,
            lambda executor: executor.run(job(tmp_path, "echo"), report=lambda _: None),
            token="b" * 40,
            patience_seconds=1.0,
        )
    assert caught.value.code == "cluster_unreachable"
