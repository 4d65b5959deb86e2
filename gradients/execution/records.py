"""What lies in a job's folder: the job, its result or its error. Whole files or none, so that a crash leaves nothing half-written.

job.json            what the worker is to do
stdout.log, stderr.log
left/               the worker's own, the only part that it may write to in a sandbox; its working, home and temporary folder
left/result.json    the function's result, with the digest of the job that it belongs to
left/error.json     the failure that the function named

What a worker left may be a stranger's doing: it is read when it is a plain file of a bounded size, and as JSON of a known form.
"""

from __future__ import annotations

import hashlib
import shutil
from contextlib import suppress
from dataclasses import asdict
from enum import IntEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from gradients.domain.json import JsonObject, canonical
from gradients.errors import DatasetInvalid, GradientsError, JobFailed, OperatorError
from gradients.execution.job import Job
from gradients.files.plain import read_plain
from gradients.files.whole import write_bytes

JOB, LEFT = "job.json", "left"
RESULT, ERROR = f"{LEFT}/result.json", f"{LEFT}/error.json"
MOST_RESULT_BYTES, MOST_ERROR_BYTES = 64 * 1024 * 1024, 4 * 1024 * 1024


class ExitStatus(IntEnum):
    """What the exit status of a worker says; a full disk may have no room for a file that says it."""

    DONE = 0  # a result or a named error lies in the folder
    CRASHED = 1
    OUT_OF_MEMORY = 12  # as errno.ENOMEM
    DISK_FULL = 28  # as errno.ENOSPC


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JobRecord(_Record):
    """A job as its worker reads it."""

    function: str
    arguments: dict[str, JsonValue]
    deadline_seconds: float
    memory_bytes: int | None = None
    cpu_seconds: int | None = None
    open_files: int | None = None
    digest: str


class ResultRecord(_Record):
    """What the function returned."""

    digest: str  # of the job
    result: dict[str, JsonValue]


class ErrorRecord(_Record):
    """A GradientsError as bytes."""

    kind: str  # name of its class
    message: str
    code: str
    fix: str | None
    rows: tuple[int, ...] = ()

    @classmethod
    def of(cls, error: GradientsError) -> ErrorRecord:
        """The record that stands for `error`."""
        rows = error.rows if isinstance(error, DatasetInvalid) else ()
        return cls(kind=type(error).__name__, message=error.message, code=error.code, fix=error.fix, rows=rows)

    def error(self) -> GradientsError:
        """The error again, in its own class; an unknown class becomes JobFailed."""
        kind = _kinds(GradientsError).get(self.kind, JobFailed)
        if issubclass(kind, DatasetInvalid):
            return kind(self.message, rows=self.rows, code=self.code, fix=self.fix)
        return kind(self.message, code=self.code, fix=self.fix)


def digest(job: Job) -> str:
    """What makes two jobs the same: the function and its arguments. Threads and deadlines don't change a result."""
    return hashlib.sha256(canonical({"function": job.function, "arguments": job.arguments})).hexdigest()


def finished_result(job: Job) -> JsonObject | None:
    """The result that an earlier run of the same job left in its folder, or None when there is none that can be read."""
    try:
        record = ResultRecord.model_validate_json(read_plain(job.folder / RESULT, most_bytes=MOST_RESULT_BYTES))
    except (FileNotFoundError, OperatorError, ValidationError):
        return None
    return record.result if record.digest == digest(job) else None


def prepare_folder(job: Job) -> None:
    """Leave the job, and nothing of another one, in its folder."""
    job.folder.mkdir(parents=True, exist_ok=True)
    forget_result(job)
    for folder in (job.folder / LEFT, *job.writes):
        folder.mkdir(parents=True, exist_ok=True)
    write_job(job.folder, job, job.arguments)


def write_job(folder: Path, job: Job, arguments: JsonObject) -> None:
    """Leave the job for its worker, with these arguments for those that it was given."""
    record: JsonObject = {
        "function": job.function,
        "arguments": arguments,
        "deadline_seconds": job.deadline_seconds,
        **asdict(job.limits),
        "digest": digest(job),
    }
    write_bytes(folder / JOB, canonical(record))


def forget_result(job: Job) -> None:
    """Have the job run again, whatever it left."""
    with suppress(FileNotFoundError):
        shutil.rmtree(job.folder / LEFT)


def read_job(folder: Path) -> JobRecord:
    """The job that lies in `folder`."""
    return JobRecord.model_validate_json((folder / JOB).read_bytes())


def write_result(folder: Path, *, job_digest: str, result: JsonObject) -> None:
    """Leave the function's result. Raises ValueError when it holds NaN or infinity."""
    write_bytes(folder / RESULT, canonical({"digest": job_digest, "result": result}))


def write_error(folder: Path, error: GradientsError) -> None:
    """Leave the failure that the function named."""
    write_bytes(folder / ERROR, ErrorRecord.of(error).model_dump_json().encode())


def read_error(folder: Path) -> GradientsError | None:
    """The failure that the function named, or None when it named none that can be read."""
    try:
        return ErrorRecord.model_validate_json(read_plain(folder / ERROR, most_bytes=MOST_ERROR_BYTES)).error()
    except (FileNotFoundError, OperatorError, ValidationError):
        return None


def _kinds(root: type[GradientsError]) -> dict[str, type[GradientsError]]:
    """The class `root` and all below it, by name."""
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found |= _kinds(child)
    return found
