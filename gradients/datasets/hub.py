"""The files of a hub's data set, named by `datasets` and brought here in a process of its own, which looks into none of them.

Covers: data files only (the library has run no data set scripts since version 4), read as anybody may read them, never with our token, or
each customer could name what is private to us. Nothing outside the data set is opened, wherever its card points to. The process works in an
empty folder, since the library takes a name that is a folder for one. Does not cover: what the files hold; they are read as files that were
uploaded are, where there is no network.
"""

from __future__ import annotations

import contextlib
import gzip
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import gradients
from gradients.config import hub_environment
from gradients.datasets.downloads import LOOK_BYTES, Deadline
from gradients.datasets.image_folders import IMAGE_ENDINGS
from gradients.datasets.sources import DatasetLimits
from gradients.errors import DatasetInvalid, DiskFull, OutsideError
from gradients.files.disk import check_room, is_full

LOOK_SECONDS = 5.0  # between two looks at whether anybody still waits
CHUNK_BYTES = 1024 * 1024
EXIT_UNREACHABLE, EXIT_REFUSED, EXIT_NO_ROOM = 3, 4, 5
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN", "HF_TOKEN_PATH")
OPENED = frozenset(
    {"hf", "file", "local", "memory", "zip", "tar", "gzip", "bz2", "xz", "lz4", "zstd"}
)  # kinds of file systems


def fetch(repo: str, revision: str, split: str, *, folder: Path, limits: DatasetLimits, deadline: Deadline) -> Path:
    """The file of one split, or the folder of its files, in `folder`, which is empty.

    Raises DatasetInvalid when there is no such data set, OutsideError when the hub does not answer, and DiskFull.
    """
    target = folder / "files"
    target.mkdir()
    arguments = [repo, revision, split, str(limits.bytes), str(target)]
    code, said = _run(arguments, folder, deadline, name=f"The data set {repo}")
    problem = said.strip().splitlines()[-1:] or ["no reason given"]
    if code == EXIT_REFUSED:
        raise DatasetInvalid(
            f"The data set {repo}@{revision}#{split} cannot be used: {problem[0].rstrip('.')}",
            fix="Check name, revision and split, or upload its rows as a file",
        )
    if code == EXIT_NO_ROOM:
        raise DiskFull(f"There is no room for the data set {repo}", fix="Free some space")
    if code:
        raise OutsideError(f"The data set {repo} could not be fetched: {problem[0]}", fix="Is the hub reachable?")
    files = [file for file in target.rglob("*") if file.is_file()]
    return files[0] if len(files) == 1 and files[0].suffix.lower() not in IMAGE_ENDINGS else target


def _run(arguments: Sequence[str], folder: Path, deadline: Deadline, *, name: str) -> tuple[int, str]:
    """The child's exit code and what it said of a failure. Raises OutsideError at the deadline; it has ended then, too."""
    with subprocess.Popen(  # noqa: S603 (our own module, arguments checked by the source's schema)
        [sys.executable, "-m", "gradients.datasets.hub", *arguments],
        env=child_environment(),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            while True:
                deadline.check(name)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    _, said = child.communicate(timeout=min(LOOK_SECONDS, deadline.left()))
                    return child.returncode, said
        finally:
            child.kill()  # nothing, when it has ended


def child_environment() -> dict[str, str]:
    """The child's variables: no token, and none that a login left in the home folder."""
    ours = {name: value for name, value in hub_environment().items() if name not in TOKENS}
    return ours | {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "PYTHONPATH": str(Path(gradients.__file__).parents[1])}


# ---- the child


def main(repo: str, revision: str, split: str, size: str, target: str) -> int:
    """Do it; the exit code says whose fault a failure is."""
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DatasetsError

    try:
        download(repo, revision, split, size=int(size), target=Path(target))
    except Exception as error:  # the process's outermost: the parent raises it again
        print(f"{error}".replace("\n", " "), file=sys.stderr)  # noqa: T201 (the parent reads it)
        if is_full(error) or isinstance(error, DiskFull):
            return EXIT_NO_ROOM
        # Another try would end the same way: no such data set, nothing in it that can be read, or a script.
        lasting = isinstance(error, ValueError | TypeError | DatasetsError | EmptyDatasetError)
        script = isinstance(error, RuntimeError) and "scripts" in str(error)
        return EXIT_REFUSED if lasting or script else EXIT_UNREACHABLE
    return 0


def download(repo: str, revision: str, split: str, *, size: int, target: Path) -> None:
    """Bring the split's files into `target`, no more than so many bytes of them together."""
    from datasets import load_dataset_builder
    from huggingface_hub import HfFileSystem

    _open_no_other_place()
    builder = load_dataset_builder(repo, revision=revision, token=False)
    there = {str(name): [str(file) for file in files] for name, files in (builder.config.data_files or {}).items()}
    if not there.get(split):
        raise ValueError(f"it has no split {split!r}, but {', '.join(there) or 'none'}")
    hub, left, looked = HfFileSystem(token=False), size, size + LOOK_BYTES
    for address, name in zip(there[split], _names(there[split], repo), strict=True):
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with hub.open(address, "rb") as stream, place.open("xb") as file:
            for chunk in _chunks(stream, packed=address.endswith(".gz")):
                left -= len(chunk)
                if left < 0:
                    raise ValueError(f"it has more than {size:,} bytes")
                if looked - left >= LOOK_BYTES:
                    check_room(target, LOOK_BYTES)
                    looked = left
                file.write(chunk)


def _names(addresses: Sequence[str], repo: str) -> list[str]:
    """What the files are called here: images by their own paths, which captions name, and others by their place in the split."""
    paths = []
    for address in addresses:
        inside, _, path = address.partition(f"datasets/{repo}@")[2].partition("/")
        parts = PurePosixPath(path).parts
        if not inside or not parts or ".." in parts:
            raise ValueError("it names files elsewhere; they should lie in the data set")
        paths.append(path.removesuffix(".gz"))
    if any(PurePosixPath(path).suffix.lower() in IMAGE_ENDINGS for path in paths):
        return paths
    return [f"{place:05}{PurePosixPath(path).suffix.lower()}" for place, path in enumerate(paths)]


def _chunks(stream: BinaryIO, *, packed: bool) -> Iterator[bytes]:
    """The file's bytes, unpacked where it is gzip's: nobody has to take more of them than he wants."""
    source = gzip.GzipFile(fileobj=stream) if packed else stream
    while chunk := source.read(CHUNK_BYTES):
        yield chunk


def _open_no_other_place() -> None:
    """A data set's card may name data files anywhere. The library refuses them, but looks at them before."""
    from fsspec import AbstractFileSystem, register_implementation  # type: ignore[import-untyped]
    from fsspec.registry import known_implementations  # type: ignore[import-untyped]

    class Elsewhere(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
        cachable = False

        def __init__(self, *_: object, **__: object) -> None:
            raise ValueError("it names files elsewhere; they should lie in the data set")

    for kind in set(known_implementations) - OPENED:
        register_implementation(kind, Elsewhere, clobber=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
