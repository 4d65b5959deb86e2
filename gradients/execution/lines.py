"""Bytes from a worker, never more of them in memory than agreed."""

from __future__ import annotations

from collections import deque
from pathlib import Path

MAX_LINE_BYTES = 64 * 1024
MAX_LOG_BYTES = 1024 * 1024
TAIL_BYTES = 16 * 1024


class LineSplitter:
    """Cuts a stream of chunks into lines; a line over the limit is left out."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._open = b""
        self._skipping = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes, in order, without their line ends."""
        *complete, self._open = (self._open + chunk).split(b"\n")
        if complete and self._skipping:
            complete, self._skipping = complete[1:], False
        if len(self._open) > self._max_line_bytes:
            self._open, self._skipping = b"", True
        return [line for line in complete if line and len(line) <= self._max_line_bytes]


class CappedLog:
    """A log file that keeps the first bytes of a stream as they come, and its last bytes when it ends."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_LOG_BYTES, tail_bytes: int = TAIL_BYTES) -> None:
        self._path = path
        self._room = max_bytes
        self._tail_bytes = tail_bytes
        self._tail: deque[bytes] = deque()
        self._left_out = 0
        path.write_bytes(b"")

    def write(self, chunk: bytes) -> None:
        """Take the next bytes of the stream."""
        kept, rest = chunk[: self._room], chunk[self._room :]
        if kept:
            with self._path.open("ab") as file:
                file.write(kept)
        self._room -= len(kept)
        self._left_out += len(rest)
        self._tail.append(chunk)
        while len(self._tail) > 1 and sum(map(len, self._tail)) - len(self._tail[0]) >= self._tail_bytes:
            self._tail.popleft()

    def close(self) -> None:
        """Add what came last when the middle had to be left out."""
        tail = self.tail()[-self._left_out :] if self._left_out else b""
        if tail:
            with self._path.open("ab") as file:
                file.write(b"\n... %d bytes left out ...\n" % (self._left_out - len(tail)) + tail)

    def tail(self) -> bytes:
        """The last bytes of the stream."""
        return b"".join(self._tail)[-self._tail_bytes :]
