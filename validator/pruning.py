"""Drops the bytes that nobody needs any more, by age and by a limit, and counts those that stay.

Kept: whatever an unfinished task names, and of a task that has ended its winners' models, and what the public record lets auditors
download, each for a time of its own. A blob goes when nothing that is kept names it. Killed at any moment, the next look goes on: a folder
goes before the blobs it was made of, and blobs that the ledger does not name yet are left alone for longer than any step may take.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gradients.bases.bases import BaseModels
from gradients.clock import Clock
from gradients.domain.task import Task, TaskState
from gradients.log import get_logger
from gradients.repo.store import ContentStore
from validator.api.uploads import Uploads
from validator.folders import Folders
from validator.ledger import Ledger
from validator.loops import run_forever
from validator.metrics import HELD_BYTES, PRUNED_BYTES
from validator.settings import KeepSettings, ValidatorSettings

LOOK_SECONDS = 3600.0
HOUR, DAY = 3600.0, 86_400.0
LEAST_SECONDS = HOUR  # nothing younger goes, whatever the limit
UNNAMED_SECONDS = 8 * DAY  # of blobs that the ledger does not name (yet): a step is tried for seven days

log = get_logger("pruning")


class Kept(NamedTuple):
    """Something of a task that has ended."""

    until: float
    spare_from: float | None  # when it may go for the limit's sake; None: not before `until`
    folder: Path
    digests: frozenset[str]
    model: tuple[str, str] | None = None  # task and hotkey, of a model that customers download


@dataclass(frozen=True, slots=True)
class Pruner:
    """What is kept for how long is the settings' to say."""

    ledger: Ledger
    folders: Folders
    store: ContentStore
    uploads: Uploads
    clock: Clock
    settings: KeepSettings
    bases: BaseModels | None = None  # of a validator that runs: the limit of its cache is kept, too

    @classmethod
    def of(cls, settings: ValidatorSettings, ledger: Ledger, clock: Clock) -> Pruner:
        """That of a validator which does not run."""
        folders, api = Folders(settings.folder), settings.api
        uploads = Uploads(
            folders.uploads,
            ledger.uploads,
            api.max_upload_bytes,
            api.max_upload_bytes_per_customer,
            unfinished_seconds=api.unfinished_upload_hours * 3600,
        )
        return cls(ledger, folders, ContentStore(folders.blobs), uploads, clock, settings.keep)

    async def run(self) -> None:
        """Look for something to drop, for ever."""

        async def look() -> None:
            pruned = await asyncio.to_thread(self.prune)
            if any(pruned.values()):
                log.info("pruned", **pruned)
            await asyncio.to_thread(self.keep_bases)
            await self.clock.sleep(LOOK_SECONDS)

        await run_forever(look, name="pruning", rest_seconds=LOOK_SECONDS)

    def prune(self, *, only_look: bool = False) -> dict[str, int]:
        """Drop what is not needed; bytes by kind: blobs, uploads, tasks. Blocking.

        Args:
            only_look: drop nothing, and tell what would go.
        """
        now, unended, sizes = self.clock.now(), self.ledger.tasks.unended(), self.store.sizes()
        needed = frozenset(digest for task in unended for digest in self._digests(task))
        things = [thing for task, ended_at in self.ledger.tasks.ended() for thing in self._of_ended(task, ended_at)]
        going = _going(things, needed, sizes, now=now, most_bytes=self.settings.most_bytes)
        staying, named = needed | _named(things, but=going), _named(things)
        oldest = (
            min((task.created_at for task in unended), default=now) - HOUR
        )  # a spec names uploads before it is a task
        pruned = {
            "tasks": sum(self._drop_folder(folder, only_look=only_look) for folder in sorted(going)),
            "blobs": sum(
                self.store.drop(
                    sha256,
                    untouched_since=now - (LEAST_SECONDS if sha256 in named else UNNAMED_SECONDS),
                    only_look=only_look,
                )
                for sha256 in sizes.keys() - staying
            ),
            "uploads": self.uploads.drop_unused(
                since=min(now - self.settings.uploads_hours * HOUR, oldest), only_look=only_look
            )
            + self.uploads.drop_unfinished(only_look=only_look),
        }
        if not only_look:
            self._tell(pruned)
            for task_id, hotkey in (thing.model for thing in things if thing.model and thing.folder in going):
                self.ledger.submissions.drop(task_id, hotkey)  # last, when there is room to write it down
        return pruned

    def keep_bases(self) -> None:
        """Hold the cache of bases to its limit; those of unfinished tasks stay. Blocking."""
        if self.bases is not None:
            needed = {task.request.base for task in self.ledger.tasks.unended()}
            self.bases.keep_within(self.settings.caches_most_bytes, needed=needed)

    def _of_ended(self, task: Task, ended_at: float) -> Iterator[Kept]:
        keep, folder = self.settings, self.folders.task(task.id)
        data = task.prepared
        rows = frozenset({data.train.sha256, data.held_out.sha256}) if data else frozenset[str]()
        base = _base_files(task)
        if not folder.is_dir() and not any(map(self.store.has, rows | base)):
            return  # all of it has gone
        others_until = ended_at + keep.models_hours * HOUR
        open_until = ended_at + keep.record_days * DAY if _is_public(task) else others_until
        winners_until = max(ended_at + keep.winner_days * DAY, open_until)
        spare_from = None if _is_public(task) else ended_at + LEAST_SECONDS
        winners = {each.hotkey for each in self.ledger.placings.of_task(task.id) if each.rank == 1}
        yield Kept(max(others_until, open_until), spare_from, self.folders.prepared(task.id), rows)
        yield Kept(others_until, spare_from, self.folders.jobs(task.id), frozenset())
        yield Kept(winners_until, None, self.folders.results(task.id), frozenset())
        if task.state is TaskState.SCORED:
            yield Kept(winners_until, None, self.folders.base(task.id), base)
        else:  # nobody goes on from it
            yield Kept(others_until, spare_from, self.folders.base(task.id), base)
        for hotkey, manifest in self.ledger.submissions.manifests(task.id).items():
            until = winners_until if hotkey in winners else max(others_until, open_until)
            place = self.folders.submission(task.id, hotkey)
            yield Kept(until, None if hotkey in winners else spare_from, place, _files(manifest), (task.id, hotkey))

    def _digests(self, task: Task) -> Iterator[str]:
        """What an unfinished task names."""
        if task.prepared:
            yield from (task.prepared.train.sha256, task.prepared.held_out.sha256)
        yield from _base_files(task)
        for manifest in self.ledger.submissions.manifests(task.id).values():
            yield from _files(manifest)

    def _drop_folder(self, folder: Path, *, only_look: bool) -> int:
        size = _own_bytes(folder)
        if not only_look:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # the first one that is not empty ends it
                for above in folder.relative_to(self.folders.tasks).parents[:-1]:
                    (self.folders.tasks / above).rmdir()
        return size

    def _tell(self, pruned: Mapping[str, int]) -> None:
        held = {
            "blobs": sum(self.store.sizes().values()),
            "uploads": _own_bytes(self.uploads.folder),
            "tasks": _own_bytes(self.folders.tasks),
        }
        for kind, size in held.items():
            HELD_BYTES.labels(kind).set(size)
            PRUNED_BYTES.labels(kind).inc(pruned[kind])
        if self.settings.most_bytes is not None and held["blobs"] > self.settings.most_bytes:
            most = self.settings.most_bytes
            log.warning("more_is_needed_than_the_limit", what="blobs", held_bytes=held["blobs"], most_bytes=most)


def _going(
    things: Sequence[Kept], needed: frozenset[str], sizes: Mapping[str, int], *, now: float, most_bytes: int | None
) -> set[Path]:
    """Folders of what is over its time, and of what goes before it, the oldest first, because the rest is larger than the limit."""
    going = {thing.folder for thing in things if thing.until <= now}
    spare = [thing for thing in things if thing.spare_from is not None and thing.spare_from <= now]
    for thing in sorted(spare, key=lambda each: each.until):
        staying = needed | _named(things, but=going)
        if most_bytes is None or sum(sizes.get(sha256, 0) for sha256 in staying) <= most_bytes:
            break
        going.add(thing.folder)
    return going


def _named(things: Sequence[Kept], *, but: AbstractSet[Path] = frozenset()) -> frozenset[str]:
    """Digests of things, but for those in these folders."""
    return frozenset(digest for thing in things if thing.folder not in but for digest in thing.digests)


def _is_public(task: Task) -> bool:
    """Whether auditors may download what the task has left."""
    return task.state is TaskState.SCORED and not task.request.private


def _base_files(task: Task) -> frozenset[str]:
    """Digests of a base that was made for the task."""
    parent = task.prepared.parent if task.prepared else None
    return frozenset(blob.sha256 for _, blob in parent.files) if parent else frozenset()


def _files(manifest: str) -> frozenset[str]:
    """Digests of a collected manifest, which was checked when it came, whatever rules it is read by now."""
    return frozenset(file["sha256"] for file in json.loads(manifest).get("files", {}).values())


def _own_bytes(folder: Path) -> int:
    """Bytes that lie in a folder and nowhere else: files of several names are the store's."""
    sizes = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            seen = path.lstat()
            sizes += seen.st_size if path.is_file() and seen.st_nlink == 1 else 0
    return sizes
