"""What the miner has promised and done, one small file per task, so that a crash at any moment loses nothing and repeats nothing.

A record says what is true; nothing in it says what is being done.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from gradients.axon.messages import Outcome, Start
from gradients.bases.continued import pinned
from gradients.domain.commitment import Opening
from gradients.errors import SetupError
from gradients.files.whole import make_folder, write_text
from gradients.log import get_logger
from miner.engines import Speed
from miner.experience import Found

RECORD = "record.json"
REPO = "repo"  # what validators fetch of a task

log = get_logger("journal")


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
        self._room_bytes: int | None = None  # that the limit left, when it was looked at last

    def folder(self, task_id: str) -> Path:
        """Where everything about a task lies."""
        if task_id not in self._records:
            raise KeyError(task_id)
        return self._folder / task_id

    def free_bytes(self) -> int:
        """What may be written where tasks lie, or will lie: what is free on the disk, and what the limit leaves."""
        there = next(folder for folder in (self._folder, *self._folder.parents) if folder.is_dir())
        free = shutil.disk_usage(there).free
        return free if self._room_bytes is None else min(free, self._room_bytes)

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
        return [task_id for task_id in over if _remove(self._beside(task_id, RECORD))]

    def keep_within(self, most_bytes: int | None, *, block: int) -> list[str]:
        """Remove files that nobody can ask for, until all tasks have `most_bytes` at most; tasks that lost some. Records stay.

        First of tasks whose reveal ended before `block`, or that failed with nothing sent, then all but the repos of committed ones; the
        oldest first. Afterwards `free_bytes` knows what is left for new tasks.

        Args:
            most_bytes: by default half of the disk.
        """
        if not self._folder.is_dir():
            return []
        most = most_bytes or shutil.disk_usage(self._folder).total // 2
        spare = [
            (record.task_id, self._beside(record.task_id, RECORD)) for record in self.all() if _is_over(record, block)
        ]
        committed = [each for each in self.all() if each.phase == "committed" and not _is_over(each, block)]
        spare += [(record.task_id, self._beside(record.task_id, RECORD, REPO)) for record in committed]
        sizes = {task_id: sum(map(_bytes, paths)) for task_id, paths in spare}
        all_bytes, lost = _bytes(self._folder), list[str]()
        needed = all_bytes - sum(sizes.values())
        for task_id, paths in spare:
            if all_bytes > most and _remove(paths):
                all_bytes -= sizes[task_id]
                lost.append(task_id)
        self._room_bytes = max(most - needed, 0)
        if all_bytes > most:
            log.warning("more_is_needed_than_the_limit", what="tasks", held_bytes=all_bytes, most_bytes=most)
        return lost

    def _beside(self, task_id: str, *names: str) -> list[Path]:
        """What lies in a task's folder, but for these."""
        return [path for path in (self._folder / task_id).iterdir() if path.name not in names]


def _is_over(record: Record, block: int) -> bool:
    """Whether nobody can ask for the task's files: its reveal ended before `block`, or it failed with nothing sent to the chain."""
    has_failed = record.phase == "failed" and not record.leaves
    return has_failed or (record.phase in ("committed", "failed") and record.start.reveal_until_block < block)


def _remove(paths: Iterable[Path]) -> bool:
    """Whether there was anything."""
    found = list(paths)
    for path in found:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return bool(found)


def _bytes(place: Path) -> int:
    """Of a file, or of all in a folder; a training may be at work there."""
    size = 0
    for path in (place, *(Path(folder, name) for folder, _, names in os.walk(place) for name in names)):
        with contextlib.suppress(FileNotFoundError):
            seen = path.lstat()
            size += seen.st_size if stat.S_ISREG(seen.st_mode) else 0
    return size


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
