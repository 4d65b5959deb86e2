"""A model as one tar archive, made while it is sent: no file is held in memory or written anywhere for it.

A tar's length is known before it is made, so that a browser shows how far it is, and a connection that breaks leaves a file that is too
short and not one that looks whole. What is in it can be checked by the digests that lie beside the files (`sha256sum --check SHA256SUMS`).
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 1 << 20
BLOCK_BYTES = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK_BYTES)
SUMS = "SHA256SUMS"


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an archive: bytes, or where they lie."""

    name: str
    size_bytes: int
    content: bytes | Path


@dataclass(frozen=True, slots=True)
class Archive:
    """Files in one folder."""

    folder: str  # its name in the archive
    members: Sequence[Member]
    written_at: float  # Unix seconds, of all of them

    @property
    def size_bytes(self) -> int:
        """Of the whole archive."""
        return sum(
            len(self._header(each)) + each.size_bytes + _padding(each.size_bytes) for each in self.members
        ) + len(END)

    def chunks(self) -> Iterator[bytes]:
        """The archive's bytes in order. Raises OSError for a file that has gone, and EOFError for one that has shrunk."""
        for member in self.members:
            yield self._header(member)
            yield from _content(member)
            yield bytes(_padding(member.size_bytes))
        yield END

    def _header(self, member: Member) -> bytes:
        about = tarfile.TarInfo(f"{self.folder}/{member.name}")
        about.size, about.mtime, about.mode = member.size_bytes, int(self.written_at), 0o644
        return about.tobuf(tarfile.PAX_FORMAT)


def sums(digests: Mapping[str, str]) -> Member:
    """A file that names the digest of each other one, as `sha256sum` reads it."""
    content = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(digests.items())).encode()
    return Member(SUMS, len(content), content)


def _content(member: Member) -> Iterator[bytes]:
    if isinstance(member.content, bytes):
        yield member.content
        return
    left = member.size_bytes
    with member.content.open("rb") as file:
        while left:
            chunk = file.read(min(left, CHUNK_BYTES))
            if not chunk:
                raise EOFError(f"{member.name} has become shorter while it was read")
            left -= len(chunk)
            yield chunk


def _padding(size: int) -> int:
    """Bytes up to the next whole block."""
    return -size % BLOCK_BYTES
