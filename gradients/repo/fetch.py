"""Fetches a repo's files by digest: goes on where it stopped, never takes more bytes than were announced, never longer than its budget."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from io import FileIO
from typing import Protocol

from gradients.errors import OutsideError, PeerUnreachable, SubmissionRejected
from gradients.files.disk import write_failure, writing
from gradients.files.locks import open_alone
from gradients.files.whole import make_folder
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
    """Bring every file of `manifest` into the store, each from the manifest's own miner: bytes that others have sent prove nothing of it.

    Raises PeerUnreachable when time runs out or the source breaks off (a later call goes on from there), SubmissionRejected
    (content_mismatch) when the bytes are not the announced ones, OutsideError (fetch_busy) when another process fetches the same
    repo, DiskFull, and OperatorError (unwritable).
    """
    # Whoever answers for these bytes: one miner in one task. Others may announce the same file and send something else.
    source = hashlib.sha256(f"{manifest.task_id} {manifest.hotkey}".encode()).hexdigest()[:16]
    await fetch_files(reader, manifest.files, store, source=source, budget=budget)


async def fetch_files(
    reader: RepoReader,
    files: Mapping[str, RepoFile],
    store: ContentStore,
    *,
    source: str,
    budget: FetchBudget = FetchBudget(),
) -> None:
    """Bring files, each by its name, into the store. Raises as `fetch_repo` does.

    Args:
        source: who answers for these bytes, in letters and digits: what another has sent is read again.
    """
    missing = {each.sha256: each.size_bytes for each in files.values() if not store.came_from(each.sha256, source)}
    await asyncio.to_thread(store.reserve, sum(missing.values()))
    size_bytes = sum(file.size_bytes for file in files.values())
    allowed = budget.seconds(size_bytes)
    started = time.monotonic()
    try:
        async with asyncio.timeout(allowed):
            for name, file in files.items():
                if not store.came_from(file.sha256, source):
                    await _fetch_file(reader, name, file, store=store, source=source)
                # What was here already by its digest may have been announced with another size, to get past the limits.
                if (size := store.path(file.sha256).stat().st_size) != file.size_bytes:
                    raise SubmissionRejected(
                        f"{name} has {size:,} bytes and was announced with {file.size_bytes:,}", code="content_mismatch"
                    )
    except TimeoutError as error:
        took = time.monotonic() - started
        raise PeerUnreachable(f"What has {size_bytes:,} bytes was not here after {took:.0f} s") from error


async def _fetch_file(reader: RepoReader, name: str, file: RepoFile, *, store: ContentStore, source: str) -> None:
    part = store.part(file.sha256, source)
    make_folder(part.parent)
    try:
        stream = open_alone(part)
    except BlockingIOError as error:  # held, or finished just now
        raise OutsideError(f"{part.name} is being fetched by another process", code="fetch_busy") from error
    except OSError as error:
        raise write_failure(error, part) from error
    with stream:
        offset = stream.seek(0, os.SEEK_END)  # behind what an earlier run has left
        if offset > file.size_bytes:
            stream.truncate(0)
            offset = stream.seek(0)
        await _append(reader, name, file, stream=stream, offset=offset, store=store)
        try:
            await asyncio.to_thread(store.finish, part, file.sha256, source=source)
        except SubmissionRejected:
            if offset == 0:
                raise
        else:
            return
    # Bytes of an earlier run may have been spoilt on our disk; only what was read in one go convicts a miner.
    await _fetch_file(reader, name, file, store=store, source=source)


async def _append(
    reader: RepoReader, name: str, file: RepoFile, *, stream: FileIO, offset: int, store: ContentStore
) -> None:
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
            missing -= len(chunk)
            left = memoryview(chunk)
            store.check_room(len(chunk))  # several fetch at once: what each was promised is not there for all
            with writing(store.root / name):
                while left:
                    left = left[stream.write(left) :]
    if missing:
        raise PeerUnreachable(f"{name} broke off {missing:,} bytes before its end")
