"""Data sets that customers upload: streamed to disk under their digest, within limits, for whoever sent them and nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio

from gradients.client.models import HOSTED_PREFIXES, UPLOAD_PREFIX
from gradients.datasets.formats import READERS
from gradients.domain.json import Json
from gradients.errors import DatasetInvalid, DiskFull, TaskInvalid
from gradients.files.disk import FREE_BYTES_KEPT, check_room, is_full
from gradients.files.whole import sync
from gradients.tasks.registry import with_sources
from validator.api.writing import Turns, UploadBusy, alone_at_once
from validator.ledger.uploads import UnfinishedUpload, UploadClaims

SHA256_DIGITS = 64
LOCK = ".lock"  # of whoever writes to an upload in pieces
LEAVING = ".leaving"  # of a file that is put aside before it goes


class UploadTooLarge(DatasetInvalid):
    """More bytes than this validator takes, in one file or from one customer."""

    default_code = "upload_too_large"


@dataclass(frozen=True, slots=True)
class Uploads:
    """Uploaded files by name "upload:<sha256><ending>"."""

    folder: Path
    claims: UploadClaims
    max_bytes: int
    max_bytes_per_customer: int
    allow_local_paths: bool = False  # of this machine; for local networks
    unfinished_seconds: float = 86_400.0  # that an upload in pieces is kept after its last byte came
    kept_bytes: int = FREE_BYTES_KEPT  # of the disk, that no upload takes
    turns: Turns = field(default_factory=Turns)  # of requests that write to uploads in pieces

    @property
    def unfinished_folder(self) -> Path:
        """Where uploads in pieces lie until they are whole."""
        return self.folder / "unfinished"

    def lock_of(self, upload_id: str) -> Path:
        """Held by whoever writes to an upload in pieces."""
        return self.unfinished_folder / f"{upload_id}{LOCK}"

    async def receive(self, name: str, chunks: AsyncIterator[bytes], *, customer: str) -> str:
        """Store a customer's body; the name to use in a task. Raises UploadTooLarge, DatasetInvalid for an unknown format, and DiskFull."""
        check_format(name)
        part, digest, size = self.folder / f".{secrets.token_hex(8)}.part", hashlib.sha256(), 0
        try:
            with told_of_the_disk():
                await asyncio.to_thread(self.folder.mkdir, parents=True, exist_ok=True)
                async with await anyio.open_file(part, "xb") as file:
                    async for chunk in chunks:
                        size += len(chunk)
                        self.check_size(size)
                        check_room(self.folder, len(chunk), kept_bytes=self.kept_bytes)
                        digest.update(chunk)
                        await file.write(chunk)
                    await file.flush()
                    await asyncio.to_thread(os.fsync, file.wrapped.fileno())
                stored = self.folder / stored_name(digest.hexdigest(), name)  # known at the end only
                fits = await asyncio.to_thread(
                    self.claims.take, customer, stored.name, size_bytes=size, most_bytes=self.max_bytes_per_customer
                )
                if not fits:
                    raise self.quota_exceeded()
                part.replace(stored)  # claimed already, so nobody removes it for having no owner
                await asyncio.to_thread(sync, self.folder)
        finally:
            part.unlink(missing_ok=True)
        return f"{UPLOAD_PREFIX}{stored.name}"

    def check_size(self, size_bytes: int) -> None:
        """Raises UploadTooLarge for more than one file may have."""
        if size_bytes > self.max_bytes:
            raise UploadTooLarge(f"The upload is larger than {self.max_bytes:,} bytes", fix="Give a part of it")

    def quota_exceeded(self) -> UploadTooLarge:
        """What is said when a customer has no room left."""
        return UploadTooLarge(
            f"With this one your uploads are larger than {self.max_bytes_per_customer:,} bytes",
            fix="Wait until the validator drops uploads that no task has used for a while, or name a hub id, a URL or s3://bucket/key",
        )

    def resolve(self, spec: Mapping[str, Json], *, customer: str) -> dict[str, Json]:
        """The spec with uploaded data replaced by its path. Raises TaskInvalid for files that this customer has not uploaded.

        Blocking: the ledger notes that they are of use.
        """
        return with_sources(spec, partial(self._found, customer))

    def drop_unused(self, *, since: float, only_look: bool = False) -> int:
        """Drop what no spec has named since then, and what killed processes left; how many bytes that makes.

        A file is put aside before it goes, and back when somebody has claimed it in that moment: whoever uploads claims first.

        Args:
            since: before any task began that may still read its upload.
            only_look: drop nothing.
        """
        if not only_look:
            self.claims.drop(unused_since=since)
        dropped = 0
        for file in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):  # it has just got its name
                seen = file.stat()
                if file.is_dir():
                    continue
                is_left = file.name.endswith(LEAVING)
                if not is_left and (seen.st_mtime >= since or self.claims.is_used(file.name, since=since)):
                    continue
                if only_look or self._dropped(file):
                    dropped += seen.st_size
        return dropped

    def drop_unfinished(self, *, only_look: bool = False) -> int:
        """Drop uploads in pieces to which no byte has come for a while, and what was left of others; how many bytes that makes."""
        unfinished, dropped = self.claims.unfinished, 0
        since = unfinished.now() - self.unfinished_seconds
        for upload in unfinished.untouched(since=since):
            if only_look:
                dropped += self._size_of_part(upload)
                continue
            with contextlib.suppress(UploadBusy), alone_at_once(self.lock_of(upload.id)):
                dropped += self._drop_part(upload, since=since)
        for file in sorted(self.unfinished_folder.iterdir()) if self.unfinished_folder.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):
                seen = file.stat()
                if seen.st_mtime < since and not unfinished.is_known(file.name.removesuffix(LOCK)):
                    dropped += seen.st_size
                    if not only_look:
                        file.unlink()
        return dropped

    def _size_of_part(self, upload: UnfinishedUpload) -> int:
        """Bytes that go with an upload; those of a whole one stay, under its name."""
        file = self.unfinished_folder / upload.id
        return file.stat().st_size if upload.name is None and file.exists() else 0

    def _drop_part(self, upload: UnfinishedUpload, *, since: float) -> int:
        """Drop an upload that nobody writes to; how many bytes that makes, none where one has come since it was looked up."""
        size, file = self._size_of_part(upload), self.unfinished_folder / upload.id
        if upload.name is not None and file.exists():  # whole, and killed before it had its place
            file.replace(self.folder / upload.name)
        if not self.claims.unfinished.drop(upload.id, untouched_since=since):
            return 0
        file.unlink(missing_ok=True)
        return size

    def _dropped(self, file: Path) -> bool:
        name = file.name.removeprefix(".").removesuffix(LEAVING)
        aside = file.rename(self.folder / f".{name}{LEAVING}")
        if self.claims.is_claimed(name) and not (self.folder / name).exists():
            aside.rename(self.folder / name)
            return False
        aside.unlink()
        return True

    def _found(self, customer: str, source: Json) -> Json:
        """Where a source lies. It is text or a JSON object; whatever else it is names a file in some form, and is refused."""
        if isinstance(source, str) and source.startswith(UPLOAD_PREFIX):
            name = source.removeprefix(UPLOAD_PREFIX)
            digest, ending = name[:SHA256_DIGITS], name[SHA256_DIGITS:]
            if ending not in READERS or not all(c in "0123456789abcdef" for c in digest):
                raise TaskInvalid(f"'{source}' is not a name that an upload was given")
            if not (self.claims.use(customer, name) and (file := self.folder / name).is_file()):
                raise TaskInvalid(f"There is no upload {source}", fix="Upload the data set first")
            return str(file)
        hosted = isinstance(source, str) and source.startswith(HOSTED_PREFIXES)
        if isinstance(source, Mapping):
            hosted = source.get("kind") in ("hub", "url", "s3")
        if hosted or self.allow_local_paths:
            return source
        raise TaskInvalid(
            "A task cannot name files of the validator's machine",
            fix="Upload the data set, or name a hub id, a URL or s3://bucket/key",
        )


def check_format(name: str) -> None:
    """Raises DatasetInvalid for a file's name whose ending no reader has."""
    if Path(name).suffix.lower() not in READERS:
        raise DatasetInvalid(
            f"{name} has no ending of a data set that can be read", fix=f"Upload one of {', '.join(READERS)}"
        )


def stored_name(sha256: str, name: str) -> str:
    """What a whole file is called among the uploads."""
    return f"{sha256}{Path(name).suffix.lower()}"


@contextlib.contextmanager
def told_of_the_disk() -> Iterator[None]:
    """A disk that is full is said without a path of this machine. Raises DiskFull."""
    try:
        yield
    except (OSError, DiskFull) as error:
        if isinstance(error, DiskFull) or is_full(error):
            raise DiskFull("The validator has no room for the upload", fix="Tell its operator") from error
        raise
