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

from gradients.domain.json import Json
from gradients.errors import DatasetInvalid, DiskFull, TaskInvalid
from gradients.tasks.registry import with_sources

PREFIX = "upload:"
SUFFIXES = (".json", ".jsonl", ".csv", ".parquet", ".zip")


class UploadTooLarge(DatasetInvalid):
    """More bytes than this validator takes."""

    default_code = "upload_too_large"


@dataclass(frozen=True, slots=True)
class Uploads:
    """Uploaded files by name "upload:<sha256><suffix>"."""

    folder: Path
    max_bytes: int
    allow_local_paths: bool = False  # of this machine; for local networks

    async def receive(self, name: str, chunks: AsyncIterator[bytes]) -> str:
        """Store a body; the name to use in a task. Raises UploadTooLarge, DatasetInvalid for an unknown kind, and DiskFull."""
        suffix = Path(name).suffix.lower()
        if suffix not in SUFFIXES:
            raise DatasetInvalid(f"{name} is no data set that can be read", fix=f"Upload one of {', '.join(SUFFIXES)}")
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f".{secrets.token_hex(8)}.part"
        try:
            digest = await self._write(part, chunks)
            part.replace(self.folder / f"{digest}{suffix}")
        except OSError as error:
            raise DiskFull(f"The upload could not be stored: {error}") from error
        finally:
            part.unlink(missing_ok=True)
        return f"{PREFIX}{digest}{suffix}"

    async def _write(self, part: Path, chunks: AsyncIterator[bytes]) -> str:
        digest, size = hashlib.sha256(), 0
        async with await anyio.open_file(part, "xb") as file:
            async for chunk in chunks:
                size += len(chunk)
                if size > self.max_bytes:
                    raise UploadTooLarge(f"The upload is larger than {self.max_bytes:,} bytes", fix="Give a part of it")
                digest.update(chunk)
                await file.write(chunk)
            await file.flush()
            await asyncio.to_thread(os.fsync, file.wrapped.fileno())
        return digest.hexdigest()

    def resolve(self, spec: Mapping[str, Json]) -> dict[str, Json]:
        """The spec with uploaded data replaced by its path. Raises TaskInvalid for files that nobody uploaded."""
        return with_sources(spec, self._found)

    def _found(self, source: Json) -> Json:
        if isinstance(source, str) and source.startswith(PREFIX):
            return str(self._uploaded(source.removeprefix(PREFIX)))
        if self.allow_local_paths or _lies_elsewhere(source):
            return source
        raise TaskInvalid(
            "A task cannot name files of the validator's machine",
            fix="Upload the data set, or name a hub id, a URL or s3://bucket/key",
        )

    def _uploaded(self, name: str) -> Path:
        stem, suffix = name[:64], name[64:]
        if suffix not in SUFFIXES or not all(c in "0123456789abcdef" for c in stem):
            raise TaskInvalid(f"'{PREFIX}{name}' is no name that an upload was given")
        file = self.folder / name
        if not file.is_file():
            raise TaskInvalid(f"There is no upload {PREFIX}{name}", fix="Upload the data set first")
        return file


def _lies_elsewhere(dataset: Json) -> bool:
    """Whether a data set is none of this machine, in either of the forms that a source can have."""
    if isinstance(dataset, str):
        return dataset.startswith(("hub:", "http://", "https://", "s3://"))
    return isinstance(dataset, Mapping) and dataset.get("kind") in ("hub", "url", "s3")
