"""A node's part: fetches what a job reads, runs it as this machine's own jobs run, and brings back what it left.

Runs inside a worker process of Ray's, which stays for the next jobs. The executor lives on a thread of its own that ends with the process:
its workers, sandboxed as anywhere, are killed with it. What a job has written is a stranger's: plain files are sent, and nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import queue
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

import httpx

from gradients import __version__
from gradients.cluster.exchange import LOG, RESULT
from gradients.cluster.fetching import KeptFiles
from gradients.cluster.parcel import Parcel, unpack
from gradients.cluster.settings import NodeSettings
from gradients.config import device_environment
from gradients.domain.json import JsonObject
from gradients.errors import GradientsError, JobFailed, OutsideError, SetupError
from gradients.execution.job import Executor, Job
from gradients.execution.process import ProcessExecutor
from gradients.execution.records import ErrorRecord
from gradients.execution.warm import WarmExecutor
from gradients.files.digest import file_sha256
from gradients.files.plain import read_tail

BEAT_SECONDS = 1.0
_SILENCE_SECONDS = 60.0  # of the origin, after which nobody waits for this job any more
_LOG_BYTES = 16 * 1024
_TIMEOUT = httpx.Timeout(30.0)


class _Stopped(Exception):
    """Nobody waits for the job any more, or its caller wants what there is of it."""


def run_parcel(text: str, devices: Sequence[str]) -> Iterator[JsonObject]:
    """Run a job: {"started": true} once its files are here, {"told": …} for each report, and at last {"ended": …}.

    Args:
        text: a Parcel as JSON.
        devices: GPUs that are its own, as CUDA_VISIBLE_DEVICES names them.
    """
    said: queue.SimpleQueue[JsonObject] = queue.SimpleQueue()
    running = asyncio.run_coroutine_threadsafe(_run(Parcel.model_validate_json(text), devices, said), _loop())
    running.add_done_callback(lambda _: said.put({"over": True}))
    while "over" not in (told := said.get()):
        yield told
    yield {"ended": running.result()}


async def _run(parcel: Parcel, devices: Sequence[str], said: queue.SimpleQueue[JsonObject]) -> JsonObject:
    """{"error": the error's record, or null}; a result lies at the origin when this comes back."""
    settings = NodeSettings()
    try:
        if parcel.version != __version__:
            raise SetupError(
                f"This node has gradients {__version__} and the validator {parcel.version}",
                fix="Install the same version on every node, and start them again",
            )
        with _folder(settings.folder) as folder, _Origin.of(parcel) as origin:
            kept = KeptFiles(settings.folder, most_bytes=int(settings.kept_gibibytes * 1024**3))
            trees = await asyncio.to_thread(kept.fetch, parcel.trees, origin.client)
            job = unpack(parcel, trees, folder, devices=devices)
            said.put({"started": True})
            try:
                result = await _until_stopped(job, _executor(sandboxed=parcel.sandboxed), origin, said)
                await asyncio.to_thread(origin.bring, RESULT, "result.json", json.dumps(result).encode())
            finally:
                await asyncio.to_thread(_bring_left, job, origin)
    except _Stopped:
        return {"error": _record(JobFailed(f"{parcel.function} was stopped", code="job_stopped"))}
    except GradientsError as error:
        return {"error": _record(error)}
    return {"error": None}


async def _until_stopped(
    job: Job, executor: Executor, origin: _Origin, said: queue.SimpleQueue[JsonObject]
) -> JsonObject:
    """The job's result. Raises _Stopped when its caller wants no more of it."""
    running = asyncio.create_task(executor.run(job, report=lambda told: said.put({"told": dict(told)})))
    try:
        while not running.done():
            await asyncio.wait({running}, timeout=BEAT_SECONDS)
            if not running.done() and await asyncio.to_thread(origin.stopped):
                raise _Stopped
        return running.result()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@dataclass
class _Origin:
    """Whoever gave the job."""

    client: httpx.Client
    silent_beats: int = 0

    @classmethod
    @contextmanager
    def of(cls, parcel: Parcel) -> Iterator[_Origin]:
        headers = {"Authorization": f"Bearer {parcel.token}"}
        with httpx.Client(base_url=parcel.origin, headers=headers, timeout=_TIMEOUT, trust_env=False) as client:
            yield cls(client)

    def stopped(self) -> bool:
        """Whether the job's caller wants no more of it, says so or has been silent for long."""
        try:
            answer = self.client.post("/v1/beat", timeout=5.0)
        except httpx.TransportError:
            self.silent_beats += 1
            return self.silent_beats * BEAT_SECONDS > _SILENCE_SECONDS
        self.silent_beats = 0
        return answer.status_code != httpx.codes.OK or bool(answer.json()["stop"])

    def bring(self, place: str, path: str, content: bytes | Path) -> None:
        """Send bytes, or a file's. Raises OutsideError when they are not taken."""
        sha256 = file_sha256(content) if isinstance(content, Path) else _sha256(content)
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        headers = {"X-Sha256": sha256, "Content-Length": str(size)}
        target = f"/v1/left/{place}/{quote(path)}"
        try:
            if isinstance(content, Path):
                with content.open("rb") as file:
                    answer = self.client.put(target, content=file, headers=headers)
            else:
                answer = self.client.put(target, content=content, headers=headers)
        except httpx.TransportError as error:
            raise OutsideError(
                f"{self.client.base_url} did not take {path}: {error}", code="origin_unreachable"
            ) from error
        if answer.is_error:
            raise OutsideError(
                f"{self.client.base_url} did not take {path}: status {answer.status_code}", code="origin_refused"
            )


def _bring_left(job: Job, origin: _Origin) -> None:
    """Send the end of what the worker said, and every plain file that it wrote."""
    with suppress(GradientsError, OSError):
        origin.bring(LOG, "stderr.log", read_tail(job.folder / "stderr.log", most_bytes=_LOG_BYTES))
    for number, folder in enumerate(job.writes):
        for file in sorted(folder.rglob("*")):
            path = file.relative_to(folder).as_posix()
            if file.is_file() and not file.is_symlink() and path.isprintable():
                origin.bring(str(number), path, file)


@contextmanager
def _folder(root: Path) -> Iterator[Path]:
    """A job's own folder, gone afterwards."""
    jobs = root / "jobs"
    jobs.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=jobs))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The loop on which this process's executors live, on a thread that ends with the process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="gradients-jobs", daemon=True).start()
    return loop


@cache
def _executor(*, sandboxed: bool) -> WarmExecutor:
    """What runs this process's jobs."""
    settings = NodeSettings()
    _drop_leftovers(settings.folder / "jobs")
    _drop_leftovers(settings.folder / "workers")
    return WarmExecutor(
        ProcessExecutor(environment=_without_choice(device_environment()), sandboxed=sandboxed),
        settings.folder / "workers" / f"{os.getpid()}-kept",
        sandboxed=sandboxed,
        idle_seconds=settings.keep_seconds,
    )


def _without_choice(environment: Mapping[str, str]) -> dict[str, str]:
    """Less what Ray says of this process's GPUs: each job's own stand in it."""
    return {name: value for name, value in environment.items() if name != "CUDA_VISIBLE_DEVICES"}


def _drop_leftovers(folder: Path) -> None:
    """Remove what processes have left that were killed."""
    for left in folder.glob("*-*"):
        if not Path(f"/proc/{left.name.partition('-')[0]}").exists():
            shutil.rmtree(left, ignore_errors=True)


def _record(error: GradientsError) -> JsonObject:
    return ErrorRecord.of(error).model_dump(mode="json")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
