"""Copying the files of a folder that somebody may be at work in, with their digests.

Covers: files that are put in their place as a whole (all of a daemon's are), that vanish meanwhile, and that are one file under several
names. Does not cover: files that are changed in place. Links and what is not a plain file are left out.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from gradients.backup.manifest import File
from gradients.files.disk import writing
from gradients.files.whole import make_folder, sync

_CHUNK_BYTES = 1 << 20
# Of files.whole and of stores of bytes: files that are not whole. Locks, and what SQLite keeps beside a database, mean nothing elsewhere.
NEVER = ("*.part", "*.lock", "*-wal", "*-shm", "*-journal")


def files_below(folder: Path, *, records: Sequence[str], leave_out: Sequence[str]) -> list[Path]:
    """Plain files of a folder, relative to it: `records` first, for they name others; without what matches `leave_out`."""
    found = sorted(_walk(folder, Path(), (*leave_out, *NEVER)))
    return sorted(found, key=lambda path: not matches(path, records))


def matches(path: Path, patterns: Sequence[str]) -> bool:
    """Whether a relative path, or its name alone, matches one of the patterns."""
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns for text in (path.as_posix(), path.name))


def _walk(folder: Path, below: Path, leave_out: Sequence[str]) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder / below))
    except FileNotFoundError:  # gone meanwhile
        return
    for entry in entries:
        path = below / entry.name
        if matches(path, leave_out):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder, path, leave_out)
        elif entry.is_file(follow_symlinks=False):
            yield path


class Copier:
    """Copies files one by one; names of one file become names of one copy."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._copies: dict[tuple[int, int], File] = {}  # by device and inode of the source

    def copy(self, source: Path, path: str) -> File:
        """Copy a file to `path` below the target. Raises FileNotFoundError when the source is not there (any more), DiskFull."""
        with source.open("rb") as stream:
            about = os.fstat(stream.fileno())
            copy = self._target / path
            make_folder(copy.parent)
            key = (about.st_dev, about.st_ino)
            if (known := self._copies.get(key)) is not None and self._linked(known, copy):
                return known.model_copy(update={"path": path})
            digest, size = hashlib.sha256(), 0
            with writing(copy), os.fdopen(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                while chunk := stream.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    out.write(chunk)
                    size += len(chunk)
            sync(copy)
        mode = stat.S_IMODE(about.st_mode) & 0o700
        file = File(path=path, size=size, sha256=digest.hexdigest(), mode=mode)
        if about.st_nlink > 1:
            self._copies[key] = file
        return file

    def _linked(self, known: File, copy: Path) -> bool:
        try:
            os.link(self._target / known.path, copy)
        except OSError:  # a file system without second names
            return False
        return True
