"""What only real processes do: die, hang, flood, and outlive their parents."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import gradients
from gradients.domain.json import JsonObject
from gradients.errors import DiskFull, JobFailed
from gradients.execution.job import Job
from gradients.execution.process import ProcessExecutor

FUNCTIONS = "gradients.testing.worker_functions"


def job(
    folder: Path, function: str, arguments: JsonObject | None = None, *, deadline_seconds: float = 300, threads: int = 1
) -> Job:
    return Job(
        function=f"{FUNCTIONS}:{function}",
        arguments=arguments or {},
        folder=folder,
        deadline_seconds=deadline_seconds,
        threads=threads,
    )


def failure(job: Job, *, report: Callable[[JsonObject], None] = lambda _: None) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        asyncio.run(ProcessExecutor(grace_seconds=0.5).run(job, report=report))
    return caught.value


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int, *, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not is_alive(pid)


def worker_environment(tmp_path: Path, executor: ProcessExecutor, *, threads: int = 1) -> JsonObject:
    return asyncio.run(executor.run(job(tmp_path, "show_environment", threads=threads), report=lambda _: None))


def test_a_worker_sees_a_minimal_environment_and_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    seen = worker_environment(tmp_path, ProcessExecutor(environment={"CUDA_VISIBLE_DEVICES": "1"}))["environment"]
    assert isinstance(seen, dict)
    assert "HF_TOKEN" not in seen
    assert seen["CUDA_VISIBLE_DEVICES"] == "1"
    assert set(seen) - {"CUDA_VISIBLE_DEVICES", "LC_CTYPE"} == {
        *(
            "PATH",
            "HOME",
            "LANG",
            "PYTHONPATH",
            "PYTHONUNBUFFERED",
            "TMPDIR",
            "USER",
            "TOKENIZERS_PARALLELISM",
            "HF_HUB_OFFLINE",
        ),
        *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"),
    }


def test_thread_counts_stand_in_the_environment_before_torch_is_imported(tmp_path: Path) -> None:
    seen = worker_environment(tmp_path, ProcessExecutor(), threads=3)
    assert isinstance(seen["environment"], dict)
    assert isinstance(seen["modules"], list)
    assert seen["environment"]["OMP_NUM_THREADS"] == "3"
    assert "torch" not in seen["modules"]


def test_a_crash_carries_the_last_lines_of_stderr(tmp_path: Path) -> None:
    error = failure(job(tmp_path, "crash"))
    assert error.code == "job_crashed"
    assert "RuntimeError: the ceiling came down" in error.message
    assert str(tmp_path / "stderr.log") in str(error)


def test_running_out_of_memory_is_the_validators_own_failure(tmp_path: Path) -> None:
    assert failure(job(tmp_path, "use_up_memory")).code == "out_of_memory"


def test_a_full_disk_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match=r"checkpoint\.safetensors"):
        asyncio.run(ProcessExecutor().run(job(tmp_path, "fill_disk"), report=lambda _: None))


def test_a_worker_killed_by_the_kernel_is_a_failed_job(tmp_path: Path) -> None:
    error = failure(job(tmp_path, "die"))
    assert error.code == "job_killed"
    assert "SIGKILL" in error.message


@pytest.mark.parametrize("stubborn", [False, True])
def test_the_deadline_kills_the_job_even_when_it_ignores_the_request(tmp_path: Path, stubborn: bool) -> None:
    pids, seconds = list[object](), 1.5
    while not pids:  # at its deadline a worker may not have begun, on a busy machine
        started = time.monotonic()
        slow = job(tmp_path / f"{seconds:g}", "sleep", {"stubborn": stubborn}, deadline_seconds=seconds)
        error = failure(slow, report=lambda progress: pids.append(progress["pid"]))
        assert error.code == "job_deadline"
        assert time.monotonic() - started < seconds + 60
        seconds *= 2
    assert isinstance(pids[0], int)
    assert not is_alive(pids[0])


def test_a_job_that_leaves_a_process_behind_ends_with_it(tmp_path: Path) -> None:
    progress: list[JsonObject] = []
    leaving = job(tmp_path, "sleep_with_child", {"leave": True})
    assert asyncio.run(ProcessExecutor().run(leaving, report=progress.append)) == {}
    child = progress[0]["child"]
    assert isinstance(child, int)
    assert wait_until_gone(child)


def test_cancelling_kills_the_whole_group_before_it_returns(tmp_path: Path) -> None:
    async def start_and_cancel() -> JsonObject:
        told: asyncio.Queue[JsonObject] = asyncio.Queue()
        running = asyncio.create_task(
            ProcessExecutor().run(job(tmp_path, "sleep_with_child"), report=told.put_nowait),
        )
        pids = await told.get()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return pids

    pids = asyncio.run(start_and_cancel())
    assert isinstance(pids["pid"], int)
    assert isinstance(pids["child"], int)
    assert not is_alive(pids["pid"])
    assert wait_until_gone(pids["child"])


def test_what_report_raises_ends_the_job_and_reaches_the_caller_as_it_was(tmp_path: Path) -> None:
    pids: list[object] = []

    def refuse(progress: JsonObject) -> None:
        pids.append(progress["pid"])
        raise LookupError("lease lost")

    with pytest.raises(LookupError, match="lease lost"):
        asyncio.run(ProcessExecutor().run(job(tmp_path, "sleep"), report=refuse))
    assert isinstance(pids[0], int)
    assert not is_alive(pids[0])


PARENT = """
import asyncio, sys
from pathlib import Path
from gradients.execution.job import Job
from gradients.execution.process import ProcessExecutor
job = Job(function="gradients.testing.worker_functions:sleep", arguments={"stubborn": True}, folder=Path(sys.argv[1]),
          deadline_seconds=60)
asyncio.run(ProcessExecutor().run(job, report=lambda progress: print(progress["pid"], flush=True)))
"""


def test_workers_of_a_killed_parent_die_with_it(tmp_path: Path) -> None:
    root = str(Path(gradients.__file__).parents[1])
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": root}) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert is_alive(worker)
        os.kill(parent.pid, signal.SIGKILL)
        assert wait_until_gone(worker)


def test_a_flood_of_output_fills_no_disk_and_its_end_is_kept(tmp_path: Path) -> None:
    error = failure(job(tmp_path, "flood"))
    assert "last words" in error.message
    for name in ("stdout.log", "stderr.log"):
        assert 1024 * 1024 < (tmp_path / name).stat().st_size < 1.1 * 1024 * 1024
    assert (tmp_path / "stderr.log").read_text().rstrip().endswith("RuntimeError: and now this")
    assert "bytes left out" in (tmp_path / "stderr.log").read_text()


def test_progress_that_is_too_large_is_left_out_and_the_job_goes_on(tmp_path: Path) -> None:
    progress: list[JsonObject] = []
    assert asyncio.run(ProcessExecutor().run(job(tmp_path, "boast"), report=progress.append)) == {}
    assert progress == [{"step": 1}, {"step": 3}]
    assert "was not sent" in (tmp_path / "stderr.log").read_text()


def test_two_jobs_run_side_by_side(tmp_path: Path) -> None:
    async def both() -> list[JsonObject]:
        executor = ProcessExecutor()
        jobs = [job(tmp_path / str(n), "echo", {"n": n}) for n in range(2)]
        return await asyncio.gather(*(executor.run(one, report=lambda _: None) for one in jobs))

    assert asyncio.run(both()) == [{"arguments": {"n": 0}}, {"arguments": {"n": 1}}]
