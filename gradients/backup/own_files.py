"""This package's installed files, kept as they are and put back as they were: by plain copies, without pip, an index or a build.

Covers: whatever the package was installed from, its command and pip's notes on it (so that it counts as installed from there again), and
what a broken installation left. Does not cover: the code of a checkout, which lies elsewhere and is git's (`checkouts`).
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gradients.backup.packages import site
from gradients.extras import DISTRIBUTION
from gradients.files.disk import writing


class File(NamedTuple):
    """One installed file."""

    content: bytes
    mode: int
    times: tuple[int, int]  # of access and change, ns: compiled modules are known by the latter


Kept = Mapping[Path, File]  # by where it lies


def keep(to: Path) -> Kept:
    """The installed files, also copied to `to`, each where it lies below the environment's folder. Raises DiskFull and OperatorError."""
    kept = {}
    for path in _listed():
        if path.is_file():
            about, copy = path.stat(), to / path.relative_to(sys.prefix)
            kept[path] = File(path.read_bytes(), about.st_mode, (about.st_atime_ns, about.st_mtime_ns))
            with writing(copy):
                copy.parent.mkdir(parents=True, exist_ok=True)
                _write(copy, kept[path])
    return kept


def put_back(kept: Kept) -> None:
    """Have these files in their places, and no other of this package. Raises DiskFull and OperatorError."""
    with writing(site()):
        for stale in {*_places([*kept, *_listed()]), *site().glob("gradients_subnet-*.dist-info")}:
            if stale.is_dir():
                shutil.rmtree(stale)
            else:
                stale.unlink(missing_ok=True)
        for path, file in kept.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, file)


def _write(path: Path, file: File) -> None:
    path.write_bytes(file.content)
    path.chmod(stat.S_IMODE(file.mode))
    os.utime(path, ns=file.times)


def _listed() -> list[Path]:
    """What pip has noted as this package's files; nothing where it is not (wholly) installed."""
    try:
        files = importlib.metadata.distribution(DISTRIBUTION).files or []
    except importlib.metadata.PackageNotFoundError:
        return []
    paths = [Path(os.path.normpath(str(file.locate()))) for file in files]
    return [path for path in paths if path.is_relative_to(sys.prefix)]


def _places(files: Sequence[Path]) -> set[Path]:
    """What goes before the files come back: whole folders of modules, single files elsewhere."""
    inside = {site() / file.relative_to(site()).parts[0] for file in files if file.is_relative_to(site())}
    return inside | {file for file in files if not file.is_relative_to(site())}
