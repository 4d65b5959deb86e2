"""Files and folders that are there as a whole or not at all, power cuts included.

Covers: a temporary name in the same folder, contents synced before the rename and the folder after it, a full disk told apart, and what a
killed writer left behind removed by the next one. Does not cover: two writers of one path (the later rename wins).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from gradients.files.disk import is_full, write_failure, writing

STALE_SECONDS = 3600.0  # nobody writes to a part that has not grown for so long


@contextlib.contextmanager
def whole_file(path: Path, *, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A stream whose bytes become `path` when the body ends well, and are gone otherwise.

    Args:
        path: in a folder that exists.
        mode: permissions, less the process's umask.

    Raises DiskFull, and OperatorError (unwritable) for what else the disk refuses; other errors of the body pass.
    """
    with _part(path) as part:
        with writing(path):
            stream = os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb")
        with stream:
            yield stream
            with writing(path):
                stream.flush()
                os.fsync(stream.fileno())
        _put(part, path)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder that becomes `path` when the body ends well, and is gone otherwise; an older folder there goes.

    Raises as `whole_file` does.
    """
    with _part(path) as part:
        with writing(path):
            part.mkdir(parents=True)
        yield part
        with writing(path):
            for entry in part.rglob("*"):
                sync(entry)
            sync(part)
            shutil.rmtree(path, ignore_errors=True)
        _put(part, path)


def write_bytes(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Put a file with this content in its place. Raises as `whole_file` does."""
    with whole_file(path, mode=mode) as stream, writing(path):
        stream.write(content)


def write_text(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Put a file with this text, as UTF-8, in its place. Raises as `whole_file` does."""
    write_bytes(path, text.encode(), mode=mode)


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file under a temporary name, then put it in its place. Raises as `whole_file` does."""
    with _part(path) as part:
        write(part)
        with writing(path):
            sync(part)
        _put(part, path)


def sync(path: Path) -> None:
    """Have the disk keep a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _part(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; nothing stays under it."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    for left in path.parent.glob(f".{path.name}.*.part"):
        if _touched(left) < time.time() - STALE_SECONDS:
            _remove(left)
    try:
        yield part
    except OSError as error:
        if is_full(error):
            raise write_failure(error, path) from error
        raise
    finally:
        _remove(part)


def _put(part: Path, path: Path) -> None:
    with writing(path):
        part.replace(path)
        sync(path.parent)


def _touched(path: Path) -> float:
    """When something below was last written, Unix seconds; now for what goes away meanwhile."""
    try:
        return max(entry.lstat().st_mtime for entry in (path, *path.rglob("*")))
    except FileNotFoundError:
        return time.time()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
