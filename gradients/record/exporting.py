"""Copies a record to a folder or an S3 store. Copying again adds what is new; bytes are named by what they hold: none is copied twice."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from gradients.domain.json import canonical
from gradients.errors import OutsideError, SetupError
from gradients.extras import how_to_install
from gradients.files.whole import make_folder, whole_file, write_bytes
from gradients.record.models import Record, TaskBody
from gradients.record.reading import BLOBS, RECORDS, RecordSource
from gradients.record.terms import files_of

S3 = "s3://"


class Target(Protocol):
    """Where a copy goes."""

    def last_seq(self) -> int:
        """Of the newest record that is there; 0 when none is."""
        ...

    def has(self, name: str) -> bool:
        """Whether something of this name is there."""
        ...

    def put(self, name: str, content: bytes) -> None:
        """Write as a whole."""
        ...

    def put_file(self, name: str, file: Path) -> None:
        """Write a file of any size as a whole."""
        ...


class FolderTarget:
    """A folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in (RECORDS, BLOBS):
            make_folder(folder / name)

    def last_seq(self) -> int:
        return max((int(file.stem) for file in (self._folder / RECORDS).glob("*.json")), default=0)

    def has(self, name: str) -> bool:
        return (self._folder / name).is_file()

    def put(self, name: str, content: bytes) -> None:
        write_bytes(self._folder / name, content)

    def put_file(self, name: str, file: Path) -> None:
        with whole_file(self._folder / name) as out, file.open("rb") as read:
            shutil.copyfileobj(read, out)


class S3Target:
    """A bucket, with the keys and the endpoint of boto3's own settings (AWS_ENDPOINT_URL_S3 for stores that are not Amazon's)."""

    def __init__(self, bucket: str, prefix: str) -> None:
        """Raises SetupError without boto3."""
        try:
            import boto3
            from botocore.exceptions import BotoCoreError, ClientError
        except ModuleNotFoundError as error:
            raise SetupError("S3 needs boto3", fix=how_to_install("s3")) from error
        self._client: Any = boto3.client("s3")  # made at run time, without types
        self._failures: tuple[type[Exception], ...] = (BotoCoreError, ClientError)
        self._bucket, self._prefix = bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def last_seq(self) -> int:
        names = self._names(f"{RECORDS}/")
        return max((int(Path(name).stem) for name in names), default=0)

    def has(self, name: str) -> bool:
        return name in self._names(name)

    def put(self, name: str, content: bytes) -> None:
        try:
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=content)
        except self._failures as error:
            raise OutsideError(f"s3://{self._bucket}/{self._prefix}{name} cannot be written: {error}") from error

    def put_file(self, name: str, file: Path) -> None:
        try:
            self._client.upload_file(str(file), self._bucket, self._prefix + name)
        except self._failures as error:
            raise OutsideError(f"s3://{self._bucket}/{self._prefix}{name} cannot be written: {error}") from error

    def _names(self, under: str) -> list[str]:
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + under
            )
            return [each["Key"].removeprefix(self._prefix) for page in pages for each in page.get("Contents", ())]
        except self._failures as error:
            raise OutsideError(f"s3://{self._bucket} cannot be read: {error}") from error


def open_target(place: str) -> Target:
    """A folder, or s3://bucket/prefix."""
    if place.startswith(S3):
        bucket, _, prefix = place.removeprefix(S3).partition("/")
        return S3Target(bucket, prefix)
    return FolderTarget(Path(place).expanduser())


def export(source: RecordSource, target: Target, *, models: bool = True) -> int:
    """Copy what the target lacks; how many records were new. A record is written after its bytes, so that what is there is whole.

    Args:
        models: also the files of submissions, which re-evaluation needs.
    """
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        for record in source.records(after=target.last_seq()):
            for sha256 in _blobs(record, models=models):
                if not target.has(name := f"{BLOBS}/{sha256}"):
                    target.put_file(name, source.blob(sha256, Path(folder)))
            target.put(f"{RECORDS}/{record.seq:010d}.json", canonical(record.model_dump(mode="json")))
            count += 1
    return count


def _blobs(record: Record, *, models: bool) -> Iterator[str]:
    """Digests of the open files that a record names."""
    if record.kind != "task":
        return
    body = TaskBody.model_validate(record.body)
    if body.request.private:
        return
    yield from (body.data.train.sha256, body.data.held_out.sha256)
    if models:
        for entrant in body.entrants:
            yield from (file.sha256 for file in files_of(entrant).values())
