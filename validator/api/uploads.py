"""Data sets that customers upload: streamed to disk under their digest, within a size limit."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio

from gradients.client.models import HOSTED_PREFIXES, UPLOAD_PREFIX
from gradients.datasets.formats import READERS
from gradients.domain.json import Json
from gradients.errors import DatasetInvalid, DiskFull, TaskInvalid
from gradients.files.disk import is_full
from gradients.files.whole import sync
from gradients.tasks.registry import with_sources

SHA256_DIGITS = 64


class UploadTooLarge(DatasetInvalid):
    """More bytes than this validator takes."""

    default_code = "upload_too_large"


@dataclass(frozen=True, slots=True)
class Uploads:
    """Uploaded files by name "upload:<sha256><ending>"."""

    folder: Path
    max_bytes: int
    allow_local_paths: bool = False  # of this machine; for local networks

    async def receive(self, name: str, chunks: AsyncIterator[bytes]) -> str:
        """Store a body; the name to use in a task. Raises UploadTooLarge, DatasetInvalid for an unknown format, and DiskFull."""
        ending = Path(name).suffix.lower()
        if ending not in READERS:
            raise DatasetInvalid(
                f"{name} has no ending of a data set that can be read", fix=f"Upload one of {', '.join(READERS)}"
            )
        part, digest, size = self.folder / f".{secrets.token_hex(8)}.part", hashlib.sha256(), 0
        try:
            await asyncio.to_thread(self.folder.mkdir, parents=True, exist_ok=True)
            async with await anyio.open_file(part, "xb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > self.max_bytes:
                        raise UploadTooLarge(
                            f"The upload is larger than {self.max_bytes:,} bytes", fix="Give a part of it"
                        )
                    digest.update(chunk)
                    await file.write(chunk)
                await file.flush()
                await asyncio.to_thread(os.fsync, file.wrapped.fileno())
            stored = self.folder / f"{digest.hexdigest()}{ending}"  # known at the end only
            part.replace(stored)
            await asyncio.to_thread(sync, self.folder)
        except OSError as error:
            if is_full(error):  # the customer is told no path of this machine
                raise DiskFull("The validator has no room for the upload", fix="Tell its operator") from error
            raise
        finally:
            part.unlink(missing_ok=True)
        return f"{UPLOAD_PREFIX}{stored.name}"

    def resolve(self, spec: Mapping[str, Json]) -> dict[str, Json]:
        """The spec with uploaded data replaced by its path. Raises TaskInvalid for files that nobody uploaded."""
        return with_sources(spec, self._found)

    def _found(self, source: Json) -> Json:
        """Where a source lies. It is text or a JSON object; whatever else it is names a file in some form, and is refused."""
        if isinstance(source, str) and source.startswith(UPLOAD_PREFIX):
            name = source.removeprefix(UPLOAD_PREFIX)
            digest, ending = name[:SHA256_DIGITS], name[SHA256_DIGITS:]
            if ending not in READERS or not all(c in "0123456789abcdef" for c in digest):
                raise TaskInvalid(f"'{source}' is not a name that an upload was given")
            if not (file := self.folder / name).is_file():
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
