"""A store of bytes by digest: written once, checked on the way in, whole or not there at all, whenever the power goes."""

from __future__ import annotations

import errno
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from gradients.errors import DiskFull, SubmissionRejected, ValidatorError
from gradients.repo.manifest import file_sha256

FREE_BYTES_KEPT = 256 * 1024 * 1024
STALE_PART_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class ContentStore:
    """sha256 -> file, below `root`. Several processes may use one store."""

    root: Path

    def path(self, sha256: str) -> Path:
        """Where the bytes with this digest lie, or would lie."""
        return self.root / "sha256" / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        """Whether the bytes are here."""
        return self.path(sha256).is_file()

    def part(self, sha256: str) -> Path:
        """Where bytes are gathered until they are whole; a later process goes on from there."""
        return self.path(sha256).with_suffix(".part")

    def reserve(self, size_bytes: int) -> None:
        """Raises DiskFull when `size_bytes` more would leave too little room."""
        self.root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.root).free
        if free - size_bytes < FREE_BYTES_KEPT:
            raise DiskFull(
                f"{size_bytes:,} bytes are needed in {self.root} and {free:,} are free", fix="Free some space"
            )

    def add_file(self, file: Path) -> str:
        """Put a copy of `file` into the store; its digest."""
        sha256 = file_sha256(file)
        if not self.has(sha256):
            self.reserve(file.stat().st_size)
            part = self.part(sha256)
            part.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(file, part)
            except OSError as error:
                raise _explained(error, part) from error
            self.finish(sha256)
        return sha256

    def finish(self, sha256: str) -> None:
        """Turn a whole part into content. Raises SubmissionRejected (content_mismatch) when it is something else; the part is gone then."""
        part = self.part(sha256)
        if file_sha256(part) != sha256:
            part.unlink()
            raise SubmissionRejected(
                f"The bytes fetched for {sha256[:12]}… are something else", code="content_mismatch"
            )
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.chmod(0o444)
        part.replace(self.path(sha256))
        _sync_folder(part.parent)

    def drop_stale_parts(self, *, now: float | None = None) -> int:
        """Remove parts that nobody has written to for a day; how many."""
        oldest = (now or time.time()) - STALE_PART_SECONDS
        stale = [part for part in self.root.glob("sha256/*/*.part") if part.stat().st_mtime < oldest]
        for part in stale:
            part.unlink(missing_ok=True)
        return len(stale)


def _explained(error: OSError, part: Path) -> ValidatorError:
    if error.errno == errno.ENOSPC:
        return DiskFull(f"There is no room for {part.name} in {part.parent}", fix="Free some space")
    return ValidatorError(f"{part} cannot be written: {error}")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
