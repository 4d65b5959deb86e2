"""What lies in the cache of bases, and taking something out of it. A base that is taken out is fetched again when a task names it."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from gradients.files.disk import writing
from gradients.files.locks import in_turn

_HALF = re.compile(r"^\.(?P<key>.+)\.(part|gone)$")  # of a fetch, or of a removal, that was interrupted


@dataclass(frozen=True, slots=True)
class Held:
    """A base in the cache."""

    name: str  # as tasks name it, with its revision
    folder: Path
    bytes: int
    fetched_at: float  # seconds since the Unix epoch
    is_whole: bool  # or what an interrupted fetch or removal left


def held(cache: Path) -> list[Held]:
    """Every base in the cache, the largest first."""
    found = []
    for folder in cache.iterdir() if cache.is_dir() else ():
        if folder.is_symlink() or not folder.is_dir():
            continue
        files = [path.stat() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        about = folder.stat()
        size, name = sum(file.st_size for file in files), _key(folder).replace("--", "/", 1)
        found.append(Held(name, folder, size, about.st_mtime, is_whole=_key(folder) == folder.name))
    return sorted(found, key=lambda each: -each.bytes)


def drop(base: Held) -> None:
    """Take a base out, while nobody fetches it. Workers that have its files open go on with them. Raises OperatorError (unwritable)."""
    key = _key(base.folder)
    with in_turn(base.folder.parent / f".{key}.lock"):
        gone = base.folder.with_name(f".{key}.gone")
        with writing(base.folder):
            if base.folder != gone:
                shutil.rmtree(gone, ignore_errors=True)
                base.folder.rename(gone)  # at once: nobody finds half of a base
            shutil.rmtree(gone)


def _key(folder: Path) -> str:
    """The name that a folder has, or would have once it is whole."""
    half = _HALF.match(folder.name)
    return half["key"] if half else folder.name
