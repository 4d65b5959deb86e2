"""Uploads that come piece by piece and go on after a broken connection: where each stands, and what becomes of it.

Covers: how far an upload is, is what lies on the disk, so a kill at any moment loses no byte that was written; two requests never write
to one upload, and the later one ends the earlier, whose caller is likely gone; sizes are checked before bytes are taken, the sha256 when
all are there. Does not cover: bytes that a machine without power had not brought to its disk (each request's are, before its answer), of
which the announced sha256 tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from gradients.errors import CustomerError
from gradients.files.digest import file_sha256
from gradients.files.disk import check_room
from gradients.files.locks import open_alone
from gradients.files.whole import sync
from validator.api.uploads import LOCK, Uploads, UploadTooLarge, check_format, stored_name, told_of_the_disk
from validator.ledger.uploads import UnfinishedUpload

MOST_UNFINISHED = 64  # of one customer
TURN_SECONDS, LOOK_SECONDS = 5.0, 0.05  # that a request waits for an earlier one to end


class UploadUnknown(CustomerError):
    """There is no such upload of this customer, or it has expired."""

    default_code = "upload_unknown"


class UploadConflict(CustomerError):
    """The bytes do not begin where the upload stands."""

    default_code = "upload_offset_wrong"


class UploadBusy(CustomerError):
    """Another request writes to this upload."""

    default_code = "upload_busy"


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
            if sum(each.name is None for each in unfinished.of(customer)) >= MOST_UNFINISHED:
                raise TooManyUploads(
                    f"{MOST_UNFINISHED} of your uploads are unfinished, as many as may be", fix="Finish or delete some"
                )
            with told_of_the_disk():
                self.folder.mkdir(parents=True, exist_ok=True)
                check_room(self.folder, size_bytes)
            if not unfinished.begin(upload, most_bytes=uploads.max_bytes_per_customer):
                raise uploads.quota_exceeded()
            with told_of_the_disk():
                (self.folder / upload.id).touch(mode=0o600)
            return self._standing(upload)

        standing = await asyncio.to_thread(begun)
        return standing if size_bytes else await self.look(customer, upload.id)

    async def look(self, customer: str, upload_id: str) -> Standing:
        """Where an upload stands. One that lacks nothing but its end, since the validator was killed before it, is ended now.

        Raises UploadUnknown, and UploadDamaged where all bytes are there and are not those that were announced.
        """
        standing = await asyncio.to_thread(self._found, customer, upload_id)
        if standing.offset < standing.upload.size_bytes:
            return standing
        with contextlib.suppress(UploadBusy):  # whoever writes its last bytes ends it as well
            async with self._alone(upload_id, waits=False):
                await asyncio.to_thread(self._end, customer, upload_id)
        return await asyncio.to_thread(self._found, customer, upload_id)

    async def listed(self, customer: str, *, sha256: str | None = None) -> list[Standing]:
        """A customer's uploads, newest first; those with an announced sha256 alone when one is given."""

        def found() -> list[Standing]:
            known = self.uploads.claims.unfinished.of(customer)
            return [self._standing(each) for each in known if sha256 is None or each.sha256 == sha256]

        return await asyncio.to_thread(found)

    async def receive(
        self, customer: str, upload_id: str, chunks: AsyncIterator[bytes], *, offset: int, checksum: Checksum | None
    ) -> Standing:
        """Take bytes from `offset` on. What has come stays when the connection breaks, unless its checksum cannot be told any more.

        Raises UploadUnknown, UploadConflict, UploadBusy, UploadTooLarge, UploadDamaged and DiskFull.
        """
        await asyncio.to_thread(self._found, customer, upload_id)
        async with self._alone(upload_id) as stopped:
            standing = await asyncio.to_thread(self._found, customer, upload_id)
            if standing.offset != offset:
                raise UploadConflict(f"The upload stands at {standing.offset}, not at {offset}", fix="Go on from there")
            if standing.upload.name is None:
                await self._write(standing, chunks, checksum, stopped)
            standing = await asyncio.to_thread(self._found, customer, upload_id)
            if standing.offset == standing.upload.size_bytes:
                await asyncio.to_thread(self._end, customer, upload_id)
                standing = await asyncio.to_thread(self._found, customer, upload_id)
        return standing

    async def drop(self, customer: str, upload_id: str) -> None:
        """Forget an upload and its bytes. Raises UploadUnknown and UploadBusy. A file that it has become stays."""
        await asyncio.to_thread(self._found, customer, upload_id)
        async with self._alone(upload_id):
            await asyncio.to_thread(self._forget, upload_id)

    async def _write(
        self, standing: Standing, chunks: AsyncIterator[bytes], checksum: Checksum | None, stopped: asyncio.Event
    ) -> None:
        file, size, most = self._file(standing.upload.id), standing.offset, standing.upload.size_bytes
        digest = hashlib.new(checksum.algorithm) if checksum else None
        complete = False
        with told_of_the_disk(), FileIO(file, "r+") as stream:
            stream.seek(size)
            try:
                async for chunk in _until(stopped, chunks):
                    size += len(chunk)
                    if size > most:
                        raise UploadTooLarge(f"The upload was announced with {most:,} bytes, and more come")
                    await asyncio.to_thread(_append, stream, chunk)
                    if digest:
                        digest.update(chunk)
                if checksum and digest and digest.digest() != checksum.digest:
                    raise UploadDamaged(
                        "These bytes do not have the checksum that was sent with them", fix="Send them again"
                    )
                complete = True
            finally:
                if checksum and not complete:
                    stream.truncate(standing.offset)
                await asyncio.to_thread(os.fsync, stream.fileno())
                await asyncio.to_thread(self.uploads.claims.unfinished.touch, standing.upload.id)

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

    def _file(self, upload_id: str) -> Path:
        return self.folder / upload_id

    @contextlib.asynccontextmanager
    async def _alone(self, upload_id: str, *, waits: bool = True) -> AsyncIterator[asyncio.Event]:
        """Nobody else writes to the upload for the body. A request of this process that does so is asked to stop, by the event it got.

        Raises UploadBusy.
        """
        loop = asyncio.get_running_loop()
        until, stopped = loop.time() + (TURN_SECONDS if waits else 0.0), asyncio.Event()
        lock = self.folder / f"{upload_id}{LOCK}"
        while True:
            try:
                held = await asyncio.to_thread(open_alone, lock)
                break
            except BlockingIOError as error:
                if waits and (earlier := self.uploads.writing.get(upload_id)):
                    earlier.set()
                if loop.time() >= until:
                    raise UploadBusy("Another request writes to this upload", fix="Wait for its end") from error
                await asyncio.sleep(LOOK_SECONDS)
        self.uploads.writing[upload_id] = stopped
        try:
            yield stopped
        finally:
            del self.uploads.writing[upload_id]
            lock.unlink(missing_ok=True)
            held.close()


async def _until(stopped: asyncio.Event, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks, until somebody else wants to go on: a caller whose line is dead may say nothing for a long time. Raises UploadBusy."""
    stop = asyncio.ensure_future(stopped.wait())
    try:
        while True:
            chunk = asyncio.ensure_future(anext(chunks, None))
            await asyncio.wait({chunk, stop}, return_when=asyncio.FIRST_COMPLETED)
            if stopped.is_set():
                chunk.cancel()
                await asyncio.wait({chunk})
                raise UploadBusy("Another request goes on with this upload", fix="Ask where it stands")
            if (came := chunk.result()) is None:
                return
            yield came
    finally:
        stop.cancel()


def _append(file: FileIO, chunk: bytes) -> None:
    """All of the bytes; a disk that is full takes a part of them first."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]
