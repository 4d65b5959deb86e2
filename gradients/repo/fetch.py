"""Fetches a repo's files by digest: goes on where it stopped, never takes more bytes than were announced, never longer than its budget."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Protocol

from gradients.errors import OutsideError, PeerUnreachable, SubmissionRejected
from gradients.files.disk import write_failure
from gradients.repo.manifest import Manifest, RepoFile
from gradients.repo.store import ContentStore


class RepoReader(Protocol):
    """Where files are read from: a miner's axon, a mirror."""

    def read(self, name: str, offset: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes of file `name` from `offset` on. Raises OutsideError or PeerMisbehaved."""
        ...


@dataclass(frozen=True, slots=True)
class FetchBudget:
    """How long fetching may take: `base_seconds`, and longer the larger the repo is."""

    base_seconds: float = 60.0
    bytes_per_second: float = 5_000_000.0

    def seconds(self, size_bytes: int) -> float:
        """Wall time for this many bytes."""
        return self.base_seconds + size_bytes / self.bytes_per_second


async def fetch_repo(
    reader: RepoReader,
    manifest: Manifest,
    store: ContentStore,
    *,
    budget: FetchBudget = FetchBudget(),
) -> None:
    """Bring every file of `manifest` into the store; those that are there already are not read again.

    Raises PeerUnreachable when time runs out or the source breaks off (a later call goes on from there), SubmissionRejected
    (content_mismatch) when the bytes are not the announced ones, OutsideError (fetch_busy) when another process fetches the same
    repo, and DiskFull.
    """
    missing = {file.sha256: file.size_bytes for file in manifest.files.values() if not store.has(file.sha256)}
    await asyncio.to_thread(store.reserve, sum(missing.values()))
    allowed = budget.seconds(manifest.size_bytes)
    started = time.monotonic()
    try:
        async with asyncio.timeout(allowed):
            for name, file in manifest.files.items():
                if not store.has(file.sha256):
                    await _fetch_file(reader, name, file, store, part=store.part(file.sha256, _source(manifest)))
                _check_size(store.path(file.sha256), name, file)
    except TimeoutError as error:
        took = time.monotonic() - started
        raise PeerUnreachable(f"The repo of {manifest.size_bytes:,} bytes was not here after {took:.0f} s") from error


def _source(manifest: Manifest) -> str:
    """A name for whoever answers for these bytes: one miner in one task. Others may announce the same file and send something else."""
    return hashlib.sha256(f"{manifest.task_id} {manifest.hotkey}".encode()).hexdigest()[:16]


async def _fetch_file(reader: RepoReader, name: str, file: RepoFile, store: ContentStore, *, part: Path) -> None:
    with _alone_with(part) as stream:
        offset = _gathered(stream, file.size_bytes)
        await _append(reader, name, file, stream, offset)
        try:
            await asyncio.to_thread(store.finish, part, file.sha256)
        except SubmissionRejected:
            if offset == 0:
                raise
        else:
            return
    # Bytes of an earlier run may have been spoilt on our disk; only what was read in one go convicts a miner.
    await _fetch_file(reader, name, file, store, part=part)


@contextlib.contextmanager
def _alone_with(part: Path) -> Iterator[FileIO]:
    """The part, which no other process touches meanwhile. Raises OutsideError (fetch_busy) when one does."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        stream = FileIO(os.open(part, os.O_RDWR | os.O_CREAT, 0o600), "r+")
    except OSError as error:
        raise write_failure(error, part) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = part.stat().st_ino == os.fstat(stream.fileno()).st_ino
        except (BlockingIOError, FileNotFoundError):
            same = False
        if not same:  # held, or finished just now
            raise OutsideError(f"{part.name} is being fetched by another process", code="fetch_busy")
        yield stream


def _gathered(stream: FileIO, size_bytes: int) -> int:
    """How many bytes of a file an earlier run has left; the stream stands behind them."""
    offset = stream.seek(0, os.SEEK_END)
    if offset <= size_bytes:
        return offset
    stream.truncate(0)
    return stream.seek(0)


async def _append(reader: RepoReader, name: str, file: RepoFile, stream: FileIO, offset: int) -> None:
    """Write what the reader gives until the announced size is reached. Raises PeerUnreachable when it ends early."""
    missing = file.size_bytes - offset
    if missing == 0:
        return
    async with reader.read(name, offset) as chunks:
        async for chunk in chunks:
            if len(chunk) > missing:
                raise SubmissionRejected(
                    f"{name} is longer than the announced {file.size_bytes:,} bytes", code="content_mismatch"
                )
            _write(stream, chunk, name)
            missing -= len(chunk)
    if missing:
        raise PeerUnreachable(f"{name} broke off {missing:,} bytes before its end")


def _write(stream: FileIO, chunk: bytes, name: str) -> None:
    left = memoryview(chunk)
    try:
        while left:
            left = left[stream.write(left) :]
    except OSError as error:
        raise write_failure(error, Path(name)) from error


def _check_size(path: Path, name: str, file: RepoFile) -> None:
    """What was here already by its digest may have been announced with another size, to get past the limits."""
    size = path.stat().st_size
    if size != file.size_bytes:
        raise SubmissionRejected(
            f"{name} has {size:,} bytes and was announced with {file.size_bytes:,}", code="content_mismatch"
        )
