"""Many digests of one length in one piece of memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload

DIGEST_BYTES = 32


class Digests(Sequence[bytes]):
    """Digests of 32 bytes, in the order in which they were added."""

    def __init__(self, digests: Iterable[bytes] = ()) -> None:
        self._bytes = bytearray()
        for digest in digests:
            self.append(digest)

    def append(self, digest: bytes) -> None:
        """Add a digest. Raises ValueError for one of another length."""
        if len(digest) != DIGEST_BYTES:
            raise ValueError(f"a digest has {DIGEST_BYTES} bytes, not {len(digest)}")
        self._bytes += digest

    def __len__(self) -> int:
        return len(self._bytes) // DIGEST_BYTES

    @overload
    def __getitem__(self, position: int) -> bytes: ...
    @overload
    def __getitem__(self, position: slice) -> list[bytes]: ...

    def __getitem__(self, position: int | slice) -> bytes | list[bytes]:
        if isinstance(position, slice):
            return [self[each] for each in range(*position.indices(len(self)))]
        if not 0 <= position < len(self):
            raise IndexError(position)
        return bytes(self._bytes[position * DIGEST_BYTES : (position + 1) * DIGEST_BYTES])
