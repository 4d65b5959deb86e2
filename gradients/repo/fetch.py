"""Fetches a repo's files by digest: goes on where it stopped, never takes more bytes than were announced, never longer than its budget."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from gradients.errors import DiskFull, PeerUnreachable, SubmissionRejected
from gradients.repo.manifest import Manifest, RepoFile
from gradients.repo.store import ContentStore


class RepoReader(Protocol):
    """Where files are read from: a miner's axon, a mirror."""

    def read(self, name: str, offset: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes of file `name` from `offset` on. Raises OutsideError or PeerMisbehaved."""
        ...


@dataclass(frozen=True, slots=True)
class Budget:
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
    budget: Budget = Budget(),
) -> None:
    """Bring every file of `manifest` into the store; those that are there already are not read again.

    Raises PeerUnreachable when time runs out or the source breaks off (a later call goes on from there), SubmissionRejected
    (content_mismatch) when the bytes are not the announced ones, and DiskFull.
    """
    missing = {name: file for name, file in manifest.files.items() if not store.has(file.sha256)}
    store.reserve(sum(file.size_bytes for file in missing.values()))
    allowed = budget.seconds(manifest.size_bytes)
    started = time.monotonic()
    try:
        async with asyncio.timeout(allowed):
            for name, file in missing.items():
                await _fetch_file(reader, name, file, store)
    except TimeoutError as error:
        took = time.monotonic() - started
        raise PeerUnreachable(f"The repo of {manifest.size_bytes:,} bytes was not here after {took:.0f} s") from error


async def _fetch_file(reader: RepoReader, name: str, file: RepoFile, store: ContentStore) -> None:
    part = store.part(file.sha256)
    part.parent.mkdir(parents=True, exist_ok=True)
    offset = part.stat().st_size if part.exists() else 0
    if offset > file.size_bytes:
        part.unlink()
        offset = 0
    if offset < file.size_bytes or not part.exists():
        await _append(reader, name, file, part, offset)
    await asyncio.to_thread(store.finish, file.sha256)


async def _append(reader: RepoReader, name: str, file: RepoFile, part: Path, offset: int) -> None:
    """Write what the reader gives until the announced size is reached. Raises PeerUnreachable when it ends early."""
    missing = file.size_bytes - offset
    with part.open("ab") as stream:
        if missing == 0:
            return
        async with reader.read(name, offset) as chunks:
            async for chunk in chunks:
                if len(chunk) > missing:
                    raise SubmissionRejected(
                        f"{name} is longer than the announced {file.size_bytes:,} bytes", code="content_mismatch"
                    )
                _write(stream, chunk, part)
                missing -= len(chunk)
    if missing:
        raise PeerUnreachable(f"{name} broke off {missing:,} bytes before its end")


def _write(stream: BinaryIO, chunk: bytes, part: Path) -> None:
    try:
        stream.write(chunk)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"There is no room for {part.name}", fix="Free some space") from error
        raise
