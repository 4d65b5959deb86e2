"""A record as it can be had: from a validator's HTTP, or from a folder that `export` has written. Neither is trusted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import httpx
from pydantic import ValidationError

from gradients.errors import OutsideError, SetupError
from gradients.files.strict_json import strict_json
from gradients.record.models import Record, RecordPage

RECORDS, BLOBS = "records", "blobs"
TIMEOUT = httpx.Timeout(10.0, read=60.0)
MOST_BYTES, MOST_PAGE_BYTES = 1 << 34, 1 << 28  # of a blob, and of a page of records


class RecordUnreadable(OutsideError):
    """The record, or a part of it, cannot be had or is malformed."""

    default_code = "record_unreadable"


class RecordSource(Protocol):
    """Where a record is read from."""

    def records(self, *, after: int = 0) -> Iterator[Record]:
        """All records behind `after` in their order. Raises RecordUnreadable."""
        ...

    def blob(self, sha256: str, into: Path) -> Path:
        """The bytes with this digest as a file in the folder `into`. Raises RecordUnreadable, also for other bytes."""
        ...


class FolderSource:
    """What `gradients record export` has left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def records(self, *, after: int = 0) -> Iterator[Record]:
        for file in sorted((self._folder / RECORDS).glob("*.json")):
            if int(file.stem) > after:
                yield _parsed(file.read_bytes(), file.name)

    def blob(self, sha256: str, into: Path) -> Path:
        found = self._folder / BLOBS / sha256
        if not found.is_file():
            raise RecordUnreadable(f"There are no bytes {sha256[:12]}… in {self._folder}")
        with found.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise RecordUnreadable(f"The bytes called {sha256[:12]}… are something else")
        return found


class HttpSource:
    """A validator's `/v1/record`."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url.rstrip("/"), timeout=TIMEOUT)

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def records(self, *, after: int = 0) -> Iterator[Record]:
        last = after
        while True:
            try:
                with self._http.stream("GET", "/v1/record", params={"after": last}) as answer:
                    page = RecordPage.model_validate(strict_json(_read(answer.raise_for_status())))
            except (httpx.HTTPError, ValueError) as error:
                raise RecordUnreadable(f"The record behind {last} cannot be had: {error}") from error
            yield from page.records
            if not page.records or page.records[-1].seq <= last:
                return
            last = page.records[-1].seq

    def blob(self, sha256: str, into: Path) -> Path:
        file, digest, size = into / sha256, hashlib.sha256(), 0
        try:
            with self._http.stream("GET", f"/v1/record/blobs/{sha256}") as answer, file.open("wb") as out:
                answer.raise_for_status()
                for chunk in answer.iter_bytes():
                    digest.update(chunk)
                    size += len(chunk)
                    if size > MOST_BYTES:
                        break
                    out.write(chunk)
        except httpx.HTTPError as error:
            raise RecordUnreadable(f"The bytes {sha256[:12]}… cannot be had: {error}") from error
        if digest.hexdigest() != sha256:
            raise RecordUnreadable(f"The bytes called {sha256[:12]}… are something else")
        return file


def open_source(place: str) -> FolderSource | HttpSource:
    """A record by URL or folder. Raises SetupError."""
    if place.startswith(("http://", "https://")):
        return HttpSource(place)
    folder = Path(place).expanduser()
    if not (folder / RECORDS).is_dir():
        raise SetupError(f"{place} holds no record", fix="Name a validator's URL, or a folder made by `record export`")
    return FolderSource(folder)


def _read(answer: httpx.Response) -> bytes:
    content = bytearray()
    for chunk in answer.iter_bytes():
        content += chunk
        if len(content) > MOST_PAGE_BYTES:
            raise ValueError(f"a page has at most {MOST_PAGE_BYTES:,} bytes")
    return bytes(content)


def _parsed(raw: bytes, name: str) -> Record:
    try:
        return Record.model_validate(strict_json(raw))
    except (ValidationError, ValueError) as error:
        raise RecordUnreadable(f"{name} is not a record: {error}") from error
