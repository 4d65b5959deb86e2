"""What the miner has promised and done, one small file per task, so that a crash at any moment loses nothing and repeats nothing.

A record says what is true; nothing in it says what is being done.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from gradients.axon.messages import Outcome, Start
from gradients.bases.continued import pinned
from gradients.domain.commitment import Opening
from gradients.errors import SetupError
from gradients.files.whole import make_folder, write_text
from miner.engines import Speed
from miner.experience import Found

RECORD = "record.json"


class Record(BaseModel):
    """One task of this miner."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: Start
    validator: str  # hotkey of who started it
    accepted_at: float  # seconds since the Unix epoch
    salt: str  # 32 bytes as hex
    train_until: float | None = (
        None  # when training must be done; fixed once, so that a restart goes on with the same run
    )
    lowered: int = 0  # ways of training that ran out of memory here
    single_rows: bool = False  # whether a micro-batch of more than one row did
    manifest: str | None = None  # exact text, once the repo is whole
    committed_at_block: int | None = None
    leaves: tuple[
        str, ...
    ] = ()  # all leaves (hex) under the root that holds this submission, written before it is sent
    failure: str | None = None  # why there will be no submission
    found: Found | None = None  # what its search is a first guess for
    speed: Speed | None = None  # at which it was trained
    outcome: Outcome | None = None  # what the validator has said of the result, last

    @property
    def task_id(self) -> str:
        """The task."""
        return self.start.offer.task_id

    @property
    def base(self) -> str:
        """Under which name the base is found here."""
        return pinned(self.start.offer.base, self.start.offer.base_digest)

    @property
    def phase(self) -> Literal["training", "trained", "committed", "failed"]:
        """What is true of the task."""
        if self.failure is not None:
            return "failed"
        if self.committed_at_block is not None:
            return "committed"
        return "training" if self.manifest is None else "trained"


class Journal:
    """All records, kept in memory and on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        files = sorted(folder.glob(f"*/{RECORD}"))
        try:
            records = [Record.model_validate_json(file.read_bytes()) for file in files]
        except (OSError, ValidationError) as error:
            raise SetupError(
                f"The journal in {folder} cannot be read: {error}", fix="Move it away to start afresh"
            ) from error
        self._records = {record.task_id: record for record in records}

    def folder(self, task_id: str) -> Path:
        """Where everything about a task lies."""
        if task_id not in self._records:
            raise KeyError(task_id)
        return self._folder / task_id

    def free_bytes(self) -> int:
        """What is free on the disk where tasks lie, or will lie."""
        there = next(folder for folder in (self._folder, *self._folder.parents) if folder.is_dir())
        return shutil.disk_usage(there).free

    def find(self, task_id: str) -> Record | None:
        """The task's record, or None when it was never accepted."""
        return self._records.get(task_id)

    def all(self) -> list[Record]:
        """Every record, oldest first."""
        present = list(self._records.values())  # in one step: another thread may be asking while one is written
        return sorted(present, key=lambda record: record.accepted_at)

    def write(self, record: Record) -> Record:
        """Make `record` true, on disk first."""
        folder = self._folder / record.task_id
        make_folder(folder)
        write_text(folder / RECORD, record.model_dump_json())
        self._records[record.task_id] = record
        return record

    def change(self, task_id: str, **changes: object) -> Record:
        """Make some fields of a record true."""
        return self.write(self._records[task_id].model_copy(update=changes))

    def sweep(self, *, block: int) -> list[str]:
        """Remove all but the records of ended tasks whose reveal ended before `block`; those that had something left.

        A task that has not ended may be written to at this moment.
        """
        ended = [record for record in self.all() if record.phase in ("committed", "failed")]
        over = [record.task_id for record in ended if record.start.reveal_until_block < block]
        swept = []
        for task_id in over:
            left = [path for path in (self._folder / task_id).iterdir() if path.name != RECORD]
            for path in left:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            swept += [task_id] if left else []
        return swept


def openings(records: Iterable[Record], *, netuid: int, hotkey: str, block: int) -> dict[str, Opening]:
    """Task -> what opens its leaf, of every submission that a commitment must hold at `block`: until its reveal has ended."""
    return {
        record.task_id: Opening(
            netuid=netuid,
            task_id=record.task_id,
            hotkey=hotkey,
            manifest_sha256=hashlib.sha256(record.manifest.encode()).hexdigest(),
            salt=record.salt,
        )
        for record in records
        if record.manifest is not None and record.failure is None and block <= record.start.reveal_until_block
    }
