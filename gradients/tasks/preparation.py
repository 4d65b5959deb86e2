"""From a source of rows to two files by digest: the train rows that miners get, and the held-out rows that nobody else sees."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

from pydantic import JsonValue

from gradients.domain.json import canonical
from gradients.domain.task import Blob, TaskRequest
from gradients.errors import DiskFull
from gradients.tasks.base import Cleaned, Numbered, ReadSource, Row, TaskType
from gradients.tasks.sources import Limits, parse_source, read_rows
from gradients.tasks.splits import split

TRAIN_FILE, HELDOUT_FILE = "train.jsonl", "heldout.jsonl"


class PreparedData(NamedTuple):
    """What preparation leaves in its folder."""

    train_file: Path
    heldout_file: Path
    train: Blob
    heldout: Blob
    train_rows: int
    heldout_rows: int
    heldout_commitment: str  # sha256(salt | held-out sha256)
    removed: tuple[tuple[str, int], ...]


def prepare(
    kind: TaskType,
    request: TaskRequest,
    *,
    salt: bytes,
    folder: Path,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
) -> PreparedData:
    """Read, clean, deduplicate and split; the same request and salt leave the same bytes.

    Raises DatasetInvalid for data that cannot be used, OutsideError when its hub does not answer, and DiskFull.
    """

    def read(source: JsonValue) -> list[Row]:
        return read_rows(parse_source(source), limits=limits)

    cleaned = _clean(kind, request, salt, read)
    sides = split(cleaned.rows, text=kind.text, salt=salt)
    train = _write(folder / TRAIN_FILE, sides.train)
    heldout = _write(folder / HELDOUT_FILE, sides.heldout)
    removed = {reason: count for reason, count in {**cleaned.removed, **sides.removed}.items() if count}
    return PreparedData(
        train_file=folder / TRAIN_FILE,
        heldout_file=folder / HELDOUT_FILE,
        train=train,
        heldout=heldout,
        train_rows=len(sides.train),
        heldout_rows=len(sides.heldout),
        heldout_commitment=heldout_commitment(salt, heldout.sha256),
        removed=tuple(removed.items()),
    )


def heldout_commitment(salt: bytes, sha256: str) -> str:
    """What binds the validator to its held-out rows before the start: sha256 over the salt and their digest, as hex."""
    return hashlib.sha256(salt + bytes.fromhex(sha256)).hexdigest()


def _clean(kind: TaskType, request: TaskRequest, salt: bytes, read: ReadSource) -> Cleaned:
    """The type's rows in their normal form, with whatever comes from its other sources."""
    parameters = kind.schema.model_validate(request.parameters)
    cleaned = kind.clean(read(cast(JsonValue, request.dataset)), parameters)
    if kind.enrich is None:
        return cleaned
    enriched = kind.enrich(cleaned.rows, parameters, salt, read)
    return Cleaned(enriched.rows, {**cleaned.removed, **enriched.removed})


def _write(file: Path, rows: Sequence[Numbered]) -> Blob:
    """Rows as canonical JSON lines, there as a whole or not at all."""
    content = b"".join(canonical(row.row) + b"\n" for row in rows)
    part = file.with_suffix(".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"There is no room for {file.name} in {file.parent}", fix="Free some space") from error
        raise
    return Blob(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
