"""A store of bytes by digest: written once, checked on the way in, whole or not there at all, whenever the power goes."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from gradients.errors import OperatorError, SubmissionRejected
from gradients.files.digest import file_sha256
from gradients.files.disk import check_room, writing
from gradients.files.whole import make_folder, put, sync

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

    def part(self, sha256: str, source: str) -> Path:
        """Where bytes from one source are gathered until they are whole; a later process goes on from there.

        Each source has its own, since what one has sent must not spoil what another sends.
        """
        return self.path(sha256).with_name(f"{sha256}.{source}.part")

    def came_from(self, sha256: str, source: str) -> bool:
        """Whether the bytes are here, and this source has sent all of them."""
        return self.has(sha256) and self._sent(sha256, source).is_file()

    def reserve(self, size_bytes: int) -> None:
        """Drop what nobody goes on with. Raises DiskFull when `size_bytes` more would leave too little room."""
        self.drop_stale_parts()
        make_folder(self.root)
        self.check_room(size_bytes)

    def check_room(self, size_bytes: int) -> None:
        """Raises DiskFull when `size_bytes` more would leave too little room."""
        check_room(self.root, size_bytes)

    def add_file(self, file: Path) -> str:
        """Put a copy of `file` into the store; its digest."""
        sha256 = file_sha256(file)
        if self.has(sha256):
            self._touch(sha256)
            return sha256
        self.reserve(file.stat().st_size)
        part = self.part(sha256, uuid.uuid4().hex)
        make_folder(part.parent)
        try:
            with writing(part):
                shutil.copyfile(file, part)
            self.finish(part, sha256)
        except SubmissionRejected as error:  # our own file, so nobody else's fault
            raise OperatorError(f"{file} changed while it was copied", code="file_changed") from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink()
        return sha256

    def finish(self, part: Path, sha256: str, *, source: str | None = None) -> None:
        """Turn a whole part into content, and keep that `source` has sent it. Content that is here already stays as it is.

        Raises SubmissionRejected (content_mismatch) when it is something else; the part is gone then. Raises DiskFull and OperatorError
        (unwritable) when the disk does not take it; the part stays.
        """
        if file_sha256(part) != sha256:
            part.unlink()
            raise SubmissionRejected(
                f"The bytes fetched for {sha256[:12]}… are something else", code="content_mismatch"
            )
        if self.has(sha256):
            part.unlink()
            self._touch(sha256)
        else:
            with writing(part):
                sync(
                    part
                )  # before it can't be written any more: where there is no room, the next try goes on from here
                part.chmod(0o400)
            put(part, self.path(sha256))
        if source is not None:
            with writing(sent := self._sent(sha256, source)):
                sent.touch(mode=0o600)

    def check(self, sha256: str) -> Path:
        """Where the bytes lie, after reading them once more.

        Raises OperatorError when they are missing (blob_missing) or have changed (blob_corrupted); they are dropped then, so that the
        next try fetches them again.
        """
        path = self.path(sha256)
        if not path.is_file():
            raise OperatorError(f"{sha256[:12]}… is not in the store", code="blob_missing")
        if file_sha256(path) != sha256:
            path.unlink(missing_ok=True)
            raise OperatorError(
                f"{path} had changed and is dropped",
                code="blob_corrupted",
                fix="It is fetched again; is the disk failing?",
            )
        return path

    def drop_stale_parts(self, *, now: float | None = None) -> int:
        """Remove parts that nobody has written to for a day; how many."""
        oldest = (time.time() if now is None else now) - STALE_PART_SECONDS
        dropped = 0
        for part in self.root.glob("sha256/*/*.part"):
            with contextlib.suppress(FileNotFoundError):  # it has just become content
                if part.stat().st_mtime < oldest:
                    part.unlink()
                    dropped += 1
        return dropped

    def sizes(self) -> dict[str, int]:
        """Digest -> size in bytes, of everything that is here whole."""
        files = (path for path in self.root.glob("sha256/*/*") if "." not in path.name)
        return {path.name: path.stat().st_size for path in files}

    def drop(self, sha256: str, *, untouched_since: float, only_look: bool = False) -> int:
        """Remove content that nobody has added or named anew since then, and who has sent it; its size, or 0 when it stays.

        Args:
            only_look: remove nothing.
        """
        path = self.path(sha256)
        try:
            seen = path.stat()
        except FileNotFoundError:
            return 0
        if seen.st_mtime >= untouched_since:
            return 0
        if not only_look:
            path.unlink(missing_ok=True)
            for sent in path.parent.glob(f"{sha256}.*.sent"):
                sent.unlink(missing_ok=True)
        return seen.st_size

    def _touch(self, sha256: str) -> None:
        """Content that is needed anew is as young as what has just come."""
        with contextlib.suppress(OSError):  # another user's, or gone, which whoever reads it will say
            os.utime(self.path(sha256))

    def _sent(self, sha256: str, source: str) -> Path:
        """Where it is noted that a source has sent all of the bytes."""
        return self.path(sha256).with_name(f"{sha256}.{source}.sent")
