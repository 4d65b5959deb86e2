"""Digests of files that jobs read again and again: a file is read once, and again when it has changed."""

from __future__ import annotations

from pathlib import Path

from gradients.files.digest import file_sha256

_MOST = 100_000  # files; then all is forgotten


class Digests:
    """File -> sha256. A file with the same place on its disk, size and time of change is taken for the same. Threads may share one."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int, int], str] = {}

    def sha256(self, file: Path) -> str:
        """The digest of the file's bytes."""
        found = file.stat()
        key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if key not in self._known:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = file_sha256(file)
        return self._known[key]
