"""Uploads that come piece by piece and go on after a broken connection: where each stands, and what becomes of it.

Covers: how far an upload is, is what lies on the disk, so a kill at any moment loses no byte that was written; two requests never write
to one upload (`writing.py`); sizes are checked before bytes are taken, the disk's room with each of them, the sha256 when all are there.
What a customer may begin is limited, and so is what is remembered of it. Does not cover: bytes that a machine without power had not brought
to its disk (each request's are, before its answer), of which the announced sha256 tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from gradients.errors import CustomerError
from gradients.files.digest import file_sha256
from gradients.files.disk import check_room
from gradients.files.whole import sync
from validator.api.uploads import Uploads, UploadTooLarge, check_format, stored_name, told_of_the_disk
from validator.api.writing import UploadBusy, Writer, alone_at_once, append, coming, settled
from validator.ledger.uploads import UnfinishedUpload

MOST_UNFINISHED = 64  # of one customer
MOST_FINISHED = 128  # of one customer that are listed; the oldest go first, and what they have become stays
TOUCH_SECONDS = 60.0  # between two notes that bytes still come


class UploadUnknown(CustomerError):
    """There is no such upload of this customer, or it has expired."""

    default_code = "upload_unknown"


class UploadConflict(CustomerError):
    """The bytes do not begin where the upload stands."""

    default_code = "upload_offset_wrong"


class UploadDamaged(CustomerError):
    """Bytes that are not those whose checksum was sent."""

    default_code = "upload_checksum_wrong"


class TooManyUploads(CustomerError):
    """A customer has as many unfinished uploads as it may."""

    default_code = "too_many_uploads"


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a request's bytes must hash to."""

    algorithm: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Standing:
    """An upload, and how far it is."""

    upload: UnfinishedUpload
    offset: int
    expires_at: float  # Unix seconds


@dataclass(frozen=True, slots=True)
class ResumableUploads:
    """Each upload's bytes in a file of their own, until it is whole and takes its place among the others."""

    uploads: Uploads

    @property
    def folder(self) -> Path:
        """Where unfinished uploads lie."""
        return self.uploads.unfinished_folder

    async def begin(self, customer: str, *, file_name: str, size_bytes: int, sha256: str | None) -> Standing:
        """A new upload without a byte. Raises DatasetInvalid for an unknown format, UploadTooLarge, TooManyUploads and DiskFull."""
        uploads, unfinished = self.uploads, self.uploads.claims.unfinished
        check_format(file_name)
        uploads.check_size(size_bytes)
        now = unfinished.now()
        upload = UnfinishedUpload(
            id=secrets.token_hex(16),
            customer=customer,
            file_name=file_name,
            size_bytes=size_bytes,
            sha256=sha256,
            created_at=now,
            touched_at=now,
            name=None,
        )

        def begun() -> Standing:
            if unfinished.count(customer) >= MOST_UNFINISHED:
                raise TooManyUploads(
                    f"{MOST_UNFINISHED} of your uploads are unfinished, as many as may be", fix="Finish or delete some"
                )
            with told_of_the_disk():
                self.folder.mkdir(parents=True, exist_ok=True)
                check_room(self.folder, size_bytes, kept_bytes=uploads.kept_bytes)
            if not unfinished.begin(upload, most_bytes=uploads.max_bytes_per_customer):
                raise uploads.quota_exceeded()
            with told_of_the_disk():
                (self.folder / upload.id).touch(mode=0o600)
            return self._standing(upload)

        return await asyncio.to_thread(begun)

    async def look(self, customer: str, upload_id: str) -> Standing:
        """Where an upload stands. One that lacks nothing but its end, since the validator was killed before it, is ended now.

        Raises UploadUnknown, and UploadDamaged where all bytes are there and are not those that were announced.
        """
        standing = await asyncio.to_thread(self._found, customer, upload_id)
        if standing.upload.name is not None:  # whoever asks is about to name it in a task
            await asyncio.to_thread(self.uploads.claims.use, customer, standing.upload.name)
        if standing.offset < standing.upload.size_bytes:
            return standing
        with contextlib.suppress(UploadBusy):  # whoever writes its last bytes ends it as well
            await settled(self._end_at_once, customer, upload_id)
        return await asyncio.to_thread(self._found, customer, upload_id)

    async def listed(self, customer: str, *, sha256: str | None = None) -> list[Standing]:
        """A customer's uploads, newest first; those with an announced sha256 alone when one is given."""

        def found() -> list[Standing]:
            return [self._standing(each) for each in self.uploads.claims.unfinished.of(customer, sha256=sha256)]

        return await asyncio.to_thread(found)

    async def receive(
        self, customer: str, upload_id: str, chunks: AsyncIterator[bytes], *, offset: int, checksum: Checksum | None
    ) -> Standing:
        """Take bytes from `offset` on. What has come stays when the connection breaks, unless its checksum cannot be told any more.

        Raises UploadUnknown, UploadConflict, UploadBusy, UploadTooLarge, UploadDamaged and DiskFull.
        """
        await asyncio.to_thread(self._found, customer, upload_id)
        async with self._turn(upload_id) as writer:
            standing = await asyncio.to_thread(self._found, customer, upload_id)
            if standing.offset != offset:
                raise UploadConflict(f"The upload stands at {standing.offset}, not at {offset}", fix="Go on from there")
            if standing.upload.name is None:
                await self._write(standing, chunks, checksum, writer)
            standing = await asyncio.to_thread(self._found, customer, upload_id)
            if standing.offset == standing.upload.size_bytes:
                await settled(self._end, customer, upload_id)
                standing = await asyncio.to_thread(self._found, customer, upload_id)
        return standing

    async def drop(self, customer: str, upload_id: str) -> None:
        """Forget an upload and its bytes, and end the request that writes to it. Raises UploadUnknown and UploadBusy.

        A file that it has become stays.
        """
        await asyncio.to_thread(self._found, customer, upload_id)
        async with self.uploads.turns.alone(self.uploads.lock_of(upload_id), after_quiet_seconds=0.0):
            await settled(self._forget, upload_id)

    async def _write(
        self, standing: Standing, chunks: AsyncIterator[bytes], checksum: Checksum | None, writer: Writer
    ) -> None:
        upload, size, unfinished = standing.upload, standing.offset, self.uploads.claims.unfinished
        digest = hashlib.new(checksum.algorithm) if checksum else None
        complete, touched_at = False, -math.inf
        with told_of_the_disk(), self._opened(upload.id) as stream:
            stream.seek(size)
            try:
                async with contextlib.aclosing(coming(chunks, writer)) as heard:
                    async for chunk in heard:
                        size += len(chunk)
                        if size > upload.size_bytes:
                            raise UploadTooLarge(
                                f"The upload was announced with {upload.size_bytes:,} bytes, and more come"
                            )
                        await settled(append, stream, chunk, self.folder, self.uploads.kept_bytes)
                        if digest:
                            digest.update(chunk)
                        if (now := unfinished.now()) - touched_at >= TOUCH_SECONDS:
                            touched_at = now
                            await settled(unfinished.touch, upload.id)
                if checksum and digest and digest.digest() != checksum.digest:
                    raise UploadDamaged(
                        "These bytes do not have the checksum that was sent with them", fix="Send them again"
                    )
                complete = True
            finally:
                if checksum and not complete:
                    stream.truncate(standing.offset)
                await settled(os.fsync, stream.fileno())
                await settled(unfinished.touch, upload.id)

    def _end(self, customer: str, upload_id: str) -> None:
        """All bytes are there: check them, and give the file its name and its owner. Killed at any moment, the next call goes on."""
        upload, file, unfinished = (
            self._found(customer, upload_id).upload,
            self._file(upload_id),
            self.uploads.claims.unfinished,
        )
        name = upload.name
        if name is None:
            sha256 = file_sha256(file)
            if upload.sha256 is not None and upload.sha256 != sha256:
                self._forget(upload_id)
                raise UploadDamaged(
                    f"All bytes are there, and their sha256 is {sha256}, not the one that was announced",
                    code="upload_digest_wrong",
                    fix="Upload it again",
                )
            name = stored_name(sha256, upload.file_name)
            unfinished.finish(upload, name)
        if file.exists():  # claimed already, so nobody removes it for having no owner
            file.replace(self.uploads.folder / name)
            sync(self.uploads.folder)
        for old in unfinished.finished(customer, but_newest=MOST_FINISHED):
            if not self._file(old.id).exists():  # else it was killed before it had its place
                unfinished.drop(old.id)

    def _end_at_once(self, customer: str, upload_id: str) -> None:
        """The same, unless somebody writes to the upload: raises UploadBusy."""
        with alone_at_once(self.uploads.lock_of(upload_id)):
            self._end(customer, upload_id)

    def _forget(self, upload_id: str) -> None:
        self.uploads.claims.unfinished.drop(upload_id)
        self._file(upload_id).unlink(missing_ok=True)

    def _found(self, customer: str, upload_id: str) -> Standing:
        upload = self.uploads.claims.unfinished.find(customer, upload_id)
        if upload is None:
            raise UploadUnknown("There is no such upload, or it has expired", fix="Begin it again")
        return self._standing(upload)

    def _standing(self, upload: UnfinishedUpload) -> Standing:
        file = self._file(upload.id)
        try:
            offset = file.stat().st_size
        except FileNotFoundError:
            offset = upload.size_bytes if upload.name is not None else 0
        return Standing(upload, offset, upload.touched_at + self.uploads.unfinished_seconds)

    def _opened(self, upload_id: str) -> FileIO:
        """The upload's file; it is gone where the ledger was restored alone."""
        return FileIO(os.open(self._file(upload_id), os.O_RDWR | os.O_CREAT, 0o600), "r+")

    def _file(self, upload_id: str) -> Path:
        return self.folder / upload_id

    def _turn(self, upload_id: str) -> contextlib.AbstractAsyncContextManager[Writer]:
        """Nobody else writes to the upload for the body; raises UploadBusy."""
        turns = self.uploads.turns
        return turns.alone(self.uploads.lock_of(upload_id), after_quiet_seconds=turns.quiet_seconds)
