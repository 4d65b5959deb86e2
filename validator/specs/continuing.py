"""Tasks that go on from another: whether they may, and the base that is made for them.

Such a base is the other task's winner, merged by a worker with the base that it was measured on. Its files lie in the store and, by their
names, in the folder of the task that was made for: each such task has a base of its own, so nothing depends on how long others are kept.
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gradients.bases.bases import BaseInfo, BaseModels, base_in, digest_of, files_of
from gradients.bases.continued import continued_task, is_pinned
from gradients.bases.hub import MOST_BYTES_PER_PARAMETER, SMALL_FILES_BYTES
from gradients.domain.task import Blob, Hotkey, Parent, Task, TaskRequest, TaskState
from gradients.errors import ModelUnknown, OperatorError, TaskInvalid
from gradients.execution.job import Executor, Job
from gradients.files.disk import check_room
from gradients.files.plain import check_plain
from gradients.files.whole import make_folder
from gradients.log import get_logger
from gradients.repo.materialise import place_files
from gradients.repo.store import ContentStore
from gradients.tasks.jobs.models import MAKE_BASE, ContinueJob
from gradients.tasks.registry import task_type
from validator.folders import Folders
from validator.ledger import Ledger

MAKE_SECONDS = 6 * 3600.0
CARD = "README.md"  # of the first base; it names the licence and is no part of what is computed

log = get_logger("continuing")


@dataclass(frozen=True, slots=True)
class Winner:
    """The model that a task goes on from."""

    task: Task
    hotkey: Hotkey
    manifest_sha256: str
    folder: Path


def base_of(task: Task, models: BaseModels, folders: Folders) -> BaseInfo:
    """The base of a task that is prepared. Raises ModelUnknown for one that is no longer kept, and as `BaseModels.resolve` does."""
    if task.data.parent is None:
        return models.resolve(task.request.base)
    folder = folders.base(task.id)
    if not folder.is_dir():
        raise ModelUnknown(f"The base of task {task.id} is no longer kept: it ended too long ago", code="base_gone")
    return base_in(task.request.base, folder)


def winner_before(ledger: Ledger, folders: Folders, request: TaskRequest, *, customer: str) -> Winner | None:
    """The model that a customer's request goes on from; None when it names a base. Raises TaskInvalid when it cannot go on from it."""
    before = continued_task(request.base)
    if before is None:
        return None
    task = ledger.tasks.find(before)
    if (
        task is None or is_pinned(request.base) or ledger.tasks.customer_of(before) != customer
    ):  # in the same words, so that nobody learns of others' tasks
        fix = "Name a scored task of this account: `gradients task list --state scored`"
        raise TaskInvalid(f"There is no task {before} of yours to go on from", code="parent_unknown", fix=fix)
    if task.state is not TaskState.SCORED:
        fix = "Go on from it when it is scored, or from another task"
        raise TaskInvalid(f"Task {before} is {task.state}, so it has no best model", code="parent_not_scored", fix=fix)
    if task_type(task.request.type).base_family != task_type(request.type).base_family:
        what = f"Task {before} is of type {task.request.type}, whose models a task of type {request.type} cannot go on from"
        raise TaskInvalid(what, code="parent_other_kind", fix="Text goes on from text, images from images")
    if task.request.private and not request.private:
        fix = "Leave `private` as it is"
        raise TaskInvalid(
            f"Task {before} is private, and a task that is not gives its base away", code="parent_private", fix=fix
        )
    best = ledger.placings.best_of([before]).get(before)
    if best is None:
        fix = "Go on from a task that has one, or post this one again on the base"
        raise TaskInvalid(f"Task {before} has ended without a model", code="parent_without_model", fix=fix)
    folder = folders.submission(before, best.hotkey)
    if not folder.is_dir() or (task.data.parent and not folders.base(before).is_dir()):
        fix = "Train it again; a validator keeps winners for a while only ([keep] winner_days)"
        raise TaskInvalid(f"The model of task {before} is no longer kept", code="parent_gone", fix=fix)
    submission = next(each for each in ledger.submissions.of_task(before) if each.hotkey == best.hotkey)
    return Winner(task, best.hotkey, submission.manifest_sha256 or "", folder)


class Made(NamedTuple):
    """A base that was made, and not kept yet: what was tried in vain leaves nothing."""

    base: BaseInfo  # where it was made
    old: BaseInfo
    winner: Winner


@dataclass(frozen=True, slots=True)
class Continuing:
    """Makes bases, and keeps those that their tasks can be run on."""

    models: BaseModels
    store: ContentStore
    folders: Folders
    executor: Executor

    async def make(self, winner: Winner, task: Task, target: Path, *, job_folder: Path) -> Made:
        """The base of `task`, in `target`, which is the caller's to remove. Raises DiskFull before any work when it would find no room."""
        old = await asyncio.to_thread(base_of, winner.task, self.models, self.folders)
        await asyncio.to_thread(check_room_beside, old, target)
        asked = ContinueJob(base_folder=old.folder, submission=winner.folder, target=target, family=old.family)
        job = Job(
            MAKE_BASE,
            asked.model_dump(mode="json"),
            job_folder,
            deadline_seconds=MAKE_SECONDS,
            reads=(old.folder, winner.folder),
            writes=(asked.target,),
        )
        await self.executor.run(job, report=lambda _: None)
        return Made(await asyncio.to_thread(_checked, task, target, old), old, winner)

    def keep(self, task: Task, made: Made) -> Parent:
        """Put what was made into the store and the task's folder; where it comes from. Blocking."""
        found = files_of(made.base.folder)
        blobs = {path: Blob(self.store.add_file(file), file.stat().st_size) for path, file in found.items()}
        digests = {path: blob.sha256 for path, blob in blobs.items()}
        if digest_of(digests) != made.base.digest:
            raise OperatorError(f"{made.base.folder} changed after it was made", code="file_changed")
        folder = self.folders.base(task.id)
        place_files(self.store, digests, folder)
        if (made.old.folder / CARD).is_file():
            shutil.copyfile(made.old.folder / CARD, folder / CARD)
        winner = made.winner
        log.info("base_made", task=task.id, continues=winner.task.id, digest=made.base.digest)
        return Parent(winner.task.id, winner.hotkey, winner.manifest_sha256, made.old.digest, tuple(blobs.items()))


def check_room_beside(old: BaseInfo, target: Path) -> None:
    """Raises DiskFull when the disk has no room for a base as large as the old one, twice: where it is made, and in the store."""
    make_folder(target.parent)
    check_room(target.parent, 2 * sum(file.stat().st_size for file in files_of(old.folder).values()))


def _checked(task: Task, made: Path, old: BaseInfo) -> BaseInfo:
    """What a worker has left, which had read a miner's bytes: plain files of sizes that the old base accounts for."""
    if links := [path for path in made.rglob("*") if path.is_symlink()]:
        raise OperatorError(f"{links[0]} is a link", code="unexpected_file")
    most = old.parameters * MOST_BYTES_PER_PARAMETER + SMALL_FILES_BYTES
    for file in files_of(made).values():
        check_plain(file, most_bytes=most)
    return base_in(task.request.base, made)
