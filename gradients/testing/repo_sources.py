"""Repos for tests, and sources that serve them badly: cut off, stalled, dripping, wrong, too long."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from gradients.errors import PeerRefused, PeerUnreachable
from gradients.repo.manifest import Manifest, RepoFile

Chunks = AsyncIterator[bytes]
CHUNK_BYTES = 1000


def manifest_of(
    files: Mapping[str, bytes], *, hotkey: str = "5miner", announced: Mapping[str, RepoFile] | None = None
) -> Manifest:
    """The manifest of `files`; `announced` says otherwise about some of them."""
    true = {name: RepoFile(sha256=sha256_of(content), size_bytes=len(content)) for name, content in files.items()}
    return Manifest(
        task_id="instruct-0123456789ab",
        hotkey=hotkey,
        base_digest="ab" * 32,
        kind="full",
        files={**true, **(announced or {})},
    )


def sha256_of(content: bytes) -> str:
    """Its digest."""
    return hashlib.sha256(content).hexdigest()


@dataclass
class Source:
    """Reads `files` in small chunks, each passed through `spoil` with its position; keeps what was asked for."""

    files: Mapping[str, bytes]
    spoil: Callable[[int, bytes], bytes] = lambda _, chunk: chunk
    cut_after: int | None = None  # bytes of one read after which the connection breaks
    pause_seconds: float = 0.0  # between chunks
    asked: list[tuple[str, int]] = field(default_factory=list)
    given: int = 0

    @contextlib.asynccontextmanager
    async def read(self, name: str, offset: int) -> AsyncIterator[Chunks]:
        """The bytes of a file from `offset` on."""
        self.asked.append((name, offset))
        if name not in self.files:
            raise PeerRefused(f"There is no file {name}", code="not_found")
        yield self._chunks(self.files[name], offset)

    async def _chunks(self, content: bytes, offset: int) -> Chunks:
        for begin in range(offset, len(content), CHUNK_BYTES):
            chunk = content[begin : begin + CHUNK_BYTES]
            left = None if self.cut_after is None else self.cut_after - (begin - offset)
            if left is not None and left < len(chunk):
                yield self._counted(begin, chunk[: max(left, 0)])
                raise PeerUnreachable("The connection broke")
            await asyncio.sleep(self.pause_seconds)
            yield self._counted(begin, chunk)

    def _counted(self, begin: int, chunk: bytes) -> bytes:
        spoilt = self.spoil(begin, chunk)
        self.given += len(spoilt)
        return spoilt
