"""Rows of a hub's data set, through `datasets` in a process of its own: slow to import, and whatever it reads stays out of the daemon.

Covers: data files only (the library has run no data set scripts since version 4), read as anybody may read them, never with our token, or
each customer could name what is private to us. Nothing outside the data set is opened, wherever its cells or its card point to. The process
works in an empty folder, since the library takes a name that is a folder for one. Does not cover: sound, films and other media.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradients
from gradients.config import hub_environment
from gradients.datasets.sources import MOST_IMAGE_BYTES, DatasetLimits
from gradients.errors import DatasetInvalid, DiskFull, OutsideError
from gradients.files.disk import is_full

if TYPE_CHECKING:
    from datasets import IterableDataset

FETCH_SECONDS = 1800.0
EXIT_UNREACHABLE, EXIT_REFUSED, EXIT_NO_ROOM = 3, 4, 5
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN", "HF_TOKEN_PATH")
OPENED = frozenset(
    {"hf", "file", "local", "memory", "zip", "tar", "gzip", "bz2", "xz", "lz4", "zstd"}
)  # kinds of file systems


def fetch(repo: str, revision: str, split: str, *, folder: Path, limits: DatasetLimits) -> Path:
    """All rows of one split as JSON lines in `folder`, which is empty.

    Raises DatasetInvalid when there is no such data set, OutsideError when the hub does not answer, and DiskFull.
    """
    target = folder / "rows.jsonl"
    arguments = [repo, revision, split, str(limits.rows), str(limits.bytes), str(target)]
    try:
        run = subprocess.run(  # noqa: S603 (our own module, arguments checked by the source's schema)
            [sys.executable, "-m", "gradients.datasets.hub", *arguments],
            env=child_environment(),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise OutsideError(f"The data set {repo} could not be fetched in {FETCH_SECONDS:.0f} s") from error
    problem = run.stderr.strip().splitlines()[-1:] or ["no reason given"]
    if run.returncode == EXIT_REFUSED:
        raise DatasetInvalid(
            f"The data set {repo}@{revision}#{split} cannot be used: {problem[0].rstrip('.')}",
            fix="Check name, revision and split, or upload its rows as a file",
        )
    if run.returncode == EXIT_NO_ROOM:
        raise DiskFull(f"There is no room for the data set {repo}", fix="Free some space")
    if run.returncode:
        raise OutsideError(f"The data set {repo} could not be fetched: {problem[0]}", fix="Is the hub reachable?")
    return target


def child_environment() -> dict[str, str]:
    """The child's variables: no token, and none that a login left in the home folder."""
    ours = {name: value for name, value in hub_environment().items() if name not in TOKENS}
    return ours | {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "PYTHONPATH": str(Path(gradients.__file__).parents[1])}


# ---- the child


def main(repo: str, revision: str, split: str, rows: str, size: str, target: str) -> int:
    """Do it; the exit code says whose fault a failure is."""
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DatasetsError

    try:
        download(repo, revision, split, rows=int(rows), size=int(size), target=Path(target))
    except Exception as error:  # the process's outermost: the parent raises it again
        print(f"{error}".replace("\n", " "), file=sys.stderr)  # noqa: T201 (the parent reads it)
        if is_full(error):
            return EXIT_NO_ROOM
        # Another try would end the same way: no such data set, nothing in it that can be read, or a script.
        lasting = isinstance(error, ValueError | TypeError | DatasetsError | EmptyDatasetError)
        script = isinstance(error, RuntimeError) and "scripts" in str(error)
        return EXIT_REFUSED if lasting or script else EXIT_UNREACHABLE
    return 0


def download(repo: str, revision: str, split: str, *, rows: int, size: int, target: Path) -> None:
    """Write the split as JSON lines, stopping at the first row too many."""
    from datasets import load_dataset

    _open_no_other_place()
    stream = load_dataset(repo, revision=revision, split=split, streaming=True, token=False)
    written = 0
    with target.open("w", encoding="utf-8") as file:
        for number, row in enumerate(_with_images(stream, repo), start=1):
            line = json.dumps(row, ensure_ascii=False, default=str)
            written += len(line)
            if number > rows or written > size:
                raise ValueError(f"it has more than {rows:,} rows or {size:,} bytes")
            file.write(line + "\n")


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


def _with_images(stream: IterableDataset, repo: str) -> Iterator[dict[str, Any]]:  # Any: JSON, and bytes of other types
    """The rows, images as base64 of their files. Nothing is decoded, which would also open whatever path or URL stands in a cell."""
    from datasets import Image

    if stream.features is None:
        yield from stream
        return
    images = [column for column, feature in stream.features.items() if isinstance(feature, Image)]
    media = [column for column, feature in stream.features.items() if column not in images and _is_media(feature)]
    if media:
        raise ValueError(f"column '{media[0]}' holds media that cannot be used")
    for row in stream.decode(enable=False) if images else stream:
        yield row | {column: _image(row[column], repo, column) for column in images if row[column] is not None}


def _is_media(feature: object) -> bool:
    """Whether the library would open something for a feature, at any depth."""
    parts = feature.values() if isinstance(feature, dict) else feature if isinstance(feature, list | tuple) else ()
    inner = getattr(feature, "feature", None)
    own = hasattr(feature, "decode_example") and type(feature).__name__ != "Json"  # which opens nothing
    return own or any(map(_is_media, [*parts, *([inner] if inner is not None else [])]))


def _image(cell: dict[str, Any], repo: str, column: str) -> str:  # Any: bytes or text
    """An image's file, which stands in the cell or lies in the data set itself."""
    content, path = cell["bytes"], str(cell["path"])
    if content is None and path.startswith(f"hf://datasets/{repo}@") and "::" not in path:
        from huggingface_hub import HfFileSystem

        with HfFileSystem(token=False).open(path, "rb") as file:
            content = file.read(MOST_IMAGE_BYTES + 1)
    if content is None:
        raise ValueError(f"column '{column}' names images outside of the data set")
    if len(content) > MOST_IMAGE_BYTES:
        raise ValueError(f"column '{column}' has an image of more than {MOST_IMAGE_BYTES:,} bytes")
    return base64.b64encode(content).decode()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
