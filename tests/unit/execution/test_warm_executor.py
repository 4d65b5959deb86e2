"""Workers that are kept: what the next job finds ready, what it does not find, and how they end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

import pytest

from gradients.domain.json import JsonObject
from gradients.errors import JobFailed, ModelUnknown
from gradients.execution.job import Held, Job
from gradients.execution.process import ProcessExecutor
from gradients.execution.warm import WarmExecutor
from gradients.testing.sandboxes import reason_to_skip

FUNCTIONS = "gradients.testing.worker_functions"
HELD = Held(f"{FUNCTIONS}:hold", {"base": "one"})
NO_SANDBOX = reason_to_skip()
needs_sandbox = pytest.mark.skipif(bool(NO_SANDBOX), reason=NO_SANDBOX or "there is one")
Result = TypeVar("Result")


class Bench:
    """An executor in a folder, and jobs for it."""

    def __init__(self, folder: Path, executor: WarmExecutor) -> None:
        self.folder, self.executor = folder, executor
        self.jobs = 0

    def job(self, function: str, *, held: Held = HELD, deadline_seconds: float = 300, **arguments: str) -> Job:
        self.jobs += 1
        return Job(
            f"{FUNCTIONS}:{function}",
            dict(arguments),
            self.folder / f"job-{self.jobs}",
            deadline_seconds=deadline_seconds,
            holds=held,
        )

    async def run(self, job: Job) -> JsonObject:
        return await self.executor.run(job, report=lambda _: None)

    def workers(self) -> list[Path]:
        return list((self.folder / "workers").glob("*"))


@asynccontextmanager
async def bench(folder: Path, *, sandboxed: bool = False, idle_seconds: float = 60.0) -> AsyncIterator[Bench]:
    executor = WarmExecutor(
        ProcessExecutor(sandboxed=sandboxed, grace_seconds=0.5),
        folder / "workers",
        sandboxed=sandboxed,
        idle_seconds=idle_seconds,
    )
    try:
        yield Bench(folder, executor)
    finally:
        await executor.close()


def with_bench(folder: Path, use: Callable[[Bench], Awaitable[Result]], **options: bool) -> Result:
    async def main() -> Result:
        async with bench(folder, **options) as made:
            return await use(made)

    return asyncio.run(main())


def is_there(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def test_the_next_job_finds_what_is_held_and_nothing_of_the_job_before(tmp_path: Path) -> None:
    async def use(made: Bench) -> list[JsonObject]:
        return [await made.run(made.job("show_held", of=each)) for each in ("first", "second")]

    first, second = with_bench(tmp_path, use)
    assert first["held"] == second["held"] == [{"base": "one"}]
    assert first["parent"] == second["parent"]
    assert first["pid"] != second["pid"]


def test_what_holds_something_else_gets_a_worker_of_its_own(tmp_path: Path) -> None:
    async def use(made: Bench) -> list[JsonObject]:
        return [await made.run(made.job("show_held", held=replace(HELD, arguments={"base": b}))) for b in "ab"]

    first, second = with_bench(tmp_path, use)
    assert (first["held"], second["held"]) == ([{"base": "a"}], [{"base": "b"}])
    assert first["parent"] != second["parent"]


def test_two_jobs_at_once_have_two_workers(tmp_path: Path) -> None:
    async def use(made: Bench) -> list[JsonObject]:
        return list(await asyncio.gather(*(made.run(made.job("show_held")) for _ in range(2))))

    assert len({each["parent"] for each in with_bench(tmp_path, use)}) == 2


@pytest.mark.parametrize(
    ("function", "code"),
    [
        ("die", "job_killed"),
        ("abort", "job_aborted"),
        ("crash", "job_crashed"),
        ("use_up_memory", "out_of_memory"),
    ],
)
def test_a_job_that_breaks_off_costs_the_next_one_nothing(tmp_path: Path, function: str, code: str) -> None:
    async def use(made: Bench) -> tuple[JsonObject, JobFailed, JsonObject]:
        before = await made.run(made.job("show_held"))
        with pytest.raises(JobFailed) as failed:
            await made.run(made.job(function))
        return before, failed.value, await made.run(made.job("show_held"))

    before, failed, after = with_bench(tmp_path, use)
    assert failed.code == code
    assert after["parent"] == before["parent"]


def test_a_job_that_hangs_is_killed_at_its_deadline_and_the_next_one_starts_anew(tmp_path: Path) -> None:
    async def use(made: Bench) -> tuple[JobFailed, JsonObject]:
        with pytest.raises(JobFailed) as failed:
            await made.run(made.job("sleep", deadline_seconds=0.5))
        return failed.value, await made.run(made.job("show_held"))

    failed, after = with_bench(tmp_path, use)
    assert failed.code == "job_deadline"
    assert after["held"] == [{"base": "one"}]


def test_what_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    async def use(made: Bench) -> None:
        with pytest.raises(ModelUnknown, match="no such base"):
            await made.run(made.job("show_held", held=Held(f"{FUNCTIONS}:hold", {"broken": True})))
        assert made.workers() == []

    with_bench(tmp_path, use)


def test_files_are_found_where_the_arguments_say_and_come_back_to_where_they_belong(tmp_path: Path) -> None:
    given, taken = tmp_path / "given", tmp_path / "taken"
    given.mkdir()
    (given / "a.txt").write_text("text")

    async def use(made: Bench) -> None:
        job = made.job("read_and_write", reads=str(given), writes=str(taken))
        await made.run(replace(job, reads=(given,), writes=(taken,)))
        assert [
            place
            for worker in made.workers()
            for name in ("given", "taken")
            for place in (worker / name).iterdir()
            if place.is_dir()
        ] == []

    with_bench(tmp_path, use)
    assert (taken / "a.txt").read_text() == "TEXT"


def test_idle_workers_end_by_themselves(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path, idle_seconds=0.1) as made:
            pid = cast(int, (await made.run(made.job("show_held")))["parent"])
            async with asyncio.timeout(120):
                while made.workers():  # noqa: ASYNC110 (a folder has no event)
                    await asyncio.sleep(0.02)
            assert not is_there(pid)

    asyncio.run(main())


def test_a_cancelled_job_is_gone_when_the_call_returns(tmp_path: Path) -> None:
    async def use(made: Bench) -> None:
        told: asyncio.Queue[JsonObject] = asyncio.Queue()
        running = asyncio.create_task(made.executor.run(made.job("sleep"), report=told.put_nowait))
        pid = cast(int, (await told.get())["pid"])
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        while is_there(pid):  # noqa: ASYNC110 (it has been killed; the kernel may take a moment)
            await asyncio.sleep(0.02)

    with_bench(tmp_path, use)


@needs_sandbox
def test_in_a_sandbox_a_job_leaves_nothing_and_finds_nothing(tmp_path: Path) -> None:
    async def use(made: Bench) -> JsonObject:
        own = tmp_path / "results"
        for function in ("leave_a_spy", "look_around"):
            job = made.job(function, writes=str(own))
            seen = await made.run(replace(job, writes=(own,)))
            for left in own.iterdir():
                left.unlink()
        return seen

    seen = with_bench(tmp_path, use, sandboxed=True)
    assert seen["planted"] == []
    assert seen["opened"] == []
    assert len(cast(list[int], seen["processes"])) == 3  # the sandbox's first, the worker, and the job


@needs_sandbox
def test_a_job_that_tricks_its_worker_gets_nothing_and_the_next_one_finds_nothing(tmp_path: Path) -> None:
    """It says that it has ended, gives a job of its own, and leaves links to folders that are none of its business."""
    secret = tmp_path / "wallet"
    secret.mkdir()
    (secret / "hotkey").write_text("secret")
    own = tmp_path / "results"

    async def use(made: Bench) -> tuple[list[JsonObject], JsonObject, JsonObject]:
        before = await made.run(made.job("show_held"))
        told: list[JsonObject] = []
        tricky = made.job("trick_the_next_one", writes=str(own), secret=str(secret))
        with pytest.raises(JobFailed):  # whatever it left is not a result
            await made.executor.run(replace(tricky, writes=(own,)), report=told.append)
        return told, before, await made.run(made.job("show_held"))

    told, before, after = with_bench(tmp_path, use, sandboxed=True)
    assert {"worked": []} in told
    assert (secret / "hotkey").read_text() == "secret"
    assert list(own.iterdir()) == []
    assert (before["held"], before["parent"]) == (after["held"], after["parent"])
