"""Files and folders that are there as a whole or not at all, power cuts included.

Covers: a temporary name in the same folder, contents synced before the rename and the folder after it, a full disk told apart, several
writers of one path (the later rename wins), and what a killed writer left, removed by a later writer of the same path. Does not cover: the
instant in which an older folder makes room for the new one; whoever is killed in it leaves neither under the name.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from gradients.files.disk import is_full, write_failure, writing

STALE_SECONDS = 3600.0  # nobody writes to a part that has not grown for so long
_TOKEN_BYTES = 6
_TOKEN = "[0-9a-f]" * 2 * _TOKEN_BYTES


@contextlib.contextmanager
def whole_file(path: Path, *, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A stream whose bytes become `path` when the body ends well, and are gone otherwise.

    Args:
        path: in a folder that exists.
        mode: permissions, less the process's umask; the owner can read.

    Raises DiskFull, and OperatorError (unwritable) when the file cannot be made or finished; other errors of the body pass as they are.
    """
    with _part(path) as part:
        with writing(path):
            stream = os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb")
        try:
            yield stream
            with writing(path):
                stream.flush()
        finally:
            with contextlib.suppress(OSError):  # bytes that found no way onto the disk, which is said already
                stream.close()
        put(part, path)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder that becomes `path` when the body ends well, and is gone otherwise; an older folder there goes.

    What is missing above `path` is made. Raises as `whole_file` does.
    """
    make_folder(path.parent)
    with _part(path) as part:
        with writing(path):
            part.mkdir()
        yield part
        put(part, path)


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
        put(part, path)


def put(part: Path, path: Path) -> None:
    """Give a finished file or folder its name, once the disk keeps what it holds. Raises DiskFull and OperatorError (unwritable).

    Args:
        part: on the same file system as `path`, and nobody's but the caller's.
        path: what stands there is replaced; a folder by a folder, a file by a file.
    """
    with writing(path):
        for inside in part.rglob("*") if part.is_dir() else ():
            if not inside.is_symlink():
                sync(inside)
        sync(part)
        try:
            part.replace(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            _replace_folder(part, path)
        sync(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and what is missing above it, so that it is still there after a power cut. Raises as `put` does."""
    with writing(folder):
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for made in reversed(missing):
            sync(made.parent)


def sync(path: Path) -> None:
    """Have the disk keep a file, or the names in a folder, where its file system can. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # what some network file systems say of folders
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _part(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; nothing stays under it, nor under those of writers that were killed long ago."""
    oldest = time.time() - STALE_SECONDS
    for left in path.parent.glob(f".{glob.escape(path.name)}.{_TOKEN}.part"):
        with contextlib.suppress(OSError):  # gone meanwhile; or it cannot be removed, which does not stop the write
            if max(entry.lstat().st_mtime for entry in (left, *left.rglob("*"))) < oldest:
                _remove(left)
    part = _beside(path)
    try:
        yield part
    except OSError as error:
        if is_full(error):
            raise write_failure(error, path) from error
        raise
    finally:
        _remove(part)


def _replace_folder(part: Path, path: Path) -> None:
    """Put a folder where another one stands, however many do so at once."""
    while True:
        aside = _beside(path)
        with contextlib.suppress(FileNotFoundError):  # another writer has just taken it away
            path.replace(aside)
        try:
            part.replace(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # else another writer has just put one there
                with contextlib.suppress(OSError):
                    aside.replace(path)
                raise
        else:
            return
        finally:
            _remove(aside)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(_TOKEN_BYTES)}.part")


def _remove(path: Path) -> None:
    """Remove a file or a folder, as far as that is possible."""
    with contextlib.suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
