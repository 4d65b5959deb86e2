"""A job as it goes to another machine: its files by digest, its paths as places that the other side chooses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from gradients import __version__
from gradients.domain.json import JsonObject, canonical
from gradients.execution.job import Held, Job, JobLimits
from gradients.execution.relocation import relocated

_READS, _WRITES = Path("/parcel/reads"), Path("/parcel/writes")  # stand for places; nothing lies there


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def check_relative(path: str) -> str:
    """The path, when it leads to a place below wherever it is put. Raises ValueError."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\0" in path or str(pure) != path:
        raise ValueError(f"{path!r} is not a relative path")
    return path


class TreeFile(_Part):
    """A file below a tree."""

    path: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)

    _relative = field_validator("path")(check_relative)


class Tree(_Part):
    """A file or folder that a job reads. A file is a tree of one, under its own name."""

    name: str
    is_folder: bool
    files: tuple[TreeFile, ...]

    _relative = field_validator("name")(check_relative)

    @property
    def digest(self) -> str:
        """The same for the same names and bytes, wherever they lie."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()


class HeldParcel(_Part):
    """What the job's worker may keep for the next one."""

    function: str
    arguments: dict[str, JsonValue]
    reads: tuple[int, ...]  # of the parcel's trees
    bytes: int


class Parcel(_Part):
    """All that a node must know to run a job."""

    version: str = __version__
    function: str
    arguments: dict[str, JsonValue]
    trees: tuple[Tree, ...]
    writes: int
    holds: HeldParcel | None
    deadline_seconds: float
    threads: int
    packages: tuple[str, ...]
    memory_bytes: int | None
    cpu_seconds: int | None
    open_files: int | None
    accelerator: bool
    runs_programs: bool
    sandboxed: bool
    origin: str  # URL that the files come from and the results go to
    token: str  # opens it, for this run alone


def trees_of(job: Job, sha256_of: Callable[[Path], str]) -> Mapping[Path, Tree]:
    """What the job reads, by where it lies here. A link counts as what it leads to; what is missing is left out."""
    return {place: _tree(place, sha256_of) for place in _reads(job) if place.exists()}


def pack(job: Job, trees: Mapping[Path, Tree], *, sandboxed: bool, origin: str, token: str) -> Parcel:
    """The job for another machine."""
    order = list(trees)
    places = {
        **{place: _READS / trees[place].digest / trees[place].name for place in order},
        **{place: _WRITES / str(number) for number, place in enumerate(job.writes)},
    }
    held = job.holds
    return Parcel(
        function=job.function,
        arguments=_arguments(job.arguments, places),
        trees=tuple(trees[place] for place in order),
        writes=len(job.writes),
        holds=HeldParcel(
            function=held.function,
            arguments=_arguments(held.arguments, places),
            reads=tuple(order.index(place) for place in held.reads if place in trees),
            bytes=held.bytes,
        )
        if held
        else None,
        deadline_seconds=job.deadline_seconds,
        threads=job.threads,
        packages=job.packages,
        memory_bytes=job.limits.memory_bytes,
        cpu_seconds=job.limits.cpu_seconds,
        open_files=job.limits.open_files,
        accelerator=job.accelerator,
        runs_programs=job.runs_programs,
        sandboxed=sandboxed,
        origin=origin,
        token=token,
    )


def unpack(parcel: Parcel, trees: Mapping[str, Path], folder: Path, *, devices: Sequence[str]) -> Job:
    """The job again, with places of this machine.

    Args:
        trees: where each tree lies, by digest; what is missing here was missing there.
        folder: the job's own, below which it also writes.
        devices: GPUs that it may use, as CUDA_VISIBLE_DEVICES names them.
    """
    writes = tuple(folder / "writes" / str(number) for number in range(parcel.writes))
    places = {
        **{_READS / tree.digest / tree.name: trees[tree.digest] for tree in parcel.trees},
        **{_WRITES / str(number): place for number, place in enumerate(writes)},
    }
    reads = tuple(trees[tree.digest] for tree in parcel.trees)
    held = parcel.holds
    return Job(
        function=parcel.function,
        arguments=relocated(cast(JsonObject, parcel.arguments), places),
        folder=folder / "job",
        deadline_seconds=parcel.deadline_seconds,
        threads=parcel.threads,
        reads=reads,
        writes=writes,
        packages=parcel.packages,
        limits=JobLimits(parcel.memory_bytes, parcel.cpu_seconds, parcel.open_files),
        accelerator=parcel.accelerator,
        devices=tuple(devices),
        holds=Held(
            held.function,
            relocated(cast(JsonObject, held.arguments), places),
            reads=tuple(reads[number] for number in held.reads),
            bytes=held.bytes,
        )
        if held
        else None,
        runs_programs=parcel.runs_programs,
    )


def _arguments(arguments: JsonObject, places: Mapping[Path, Path]) -> dict[str, JsonValue]:
    return cast(dict[str, JsonValue], relocated(arguments, places))


def _reads(job: Job) -> list[Path]:
    return list(dict.fromkeys((*job.reads, *(job.holds.reads if job.holds else ()))))


def _tree(place: Path, sha256_of: Callable[[Path], str]) -> Tree:
    inside = sorted(file for file in place.rglob("*") if file.is_file()) if place.is_dir() else [place]
    files = [
        TreeFile(
            path=file.relative_to(place).as_posix() if place.is_dir() else place.name,
            sha256=sha256_of(file),
            size_bytes=file.stat().st_size,
        )
        for file in inside
    ]
    return Tree(name=place.name, is_folder=place.is_dir(), files=tuple(files))
