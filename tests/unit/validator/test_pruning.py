"""What is dropped, when, and what never is."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from gradients.bases.bases import BaseModels
from gradients.domain.evaluation import Placing
from gradients.domain.task import Blob, Hotkey, Parent, TaskId, TaskState
from gradients.repo.store import ContentStore
from gradients.testing.clock import HandClock
from tests.unit.validator.market import PREPARED, assigned, claimed, opened, request_for
from validator.api.uploads import Uploads
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.placings import add_placings
from validator.pruning import DAY, HOUR, Pruner
from validator.settings import KeepSettings

KEEP = KeepSettings(models_hours=48, record_days=30, winner_days=90)
FIRST, SECOND = TaskId("instruct-000000000001"), TaskId("instruct-000000000002")
WINNER, LOSER = Hotkey("5winner"), Hotkey("5loser")
SIZE = 1000


@dataclass
class Box:
    """A validator's folder with tasks in it; blobs are as old as the clock says."""

    ledger: Ledger
    clock: HandClock
    folder: Path

    def __post_init__(self) -> None:
        self.folders = Folders(self.folder)
        self.store = ContentStore(self.folders.blobs)

    def pruner(self, keep: KeepSettings = KEEP) -> Pruner:
        uploads = Uploads(self.folders.uploads, self.ledger.uploads, 1000, 1000)
        return Pruner(self.ledger, self.folders, self.store, uploads, self.clock, keep)

    def blob(self, name: str) -> str:
        """The digest of a blob of SIZE bytes."""
        file = self.folder / "blob"
        file.write_bytes(name.encode().ljust(SIZE, b"."))
        sha256 = self.store.add_file(file)
        os.utime(self.store.path(sha256), (self.clock.time, self.clock.time))
        return sha256

    def task(
        self, task_id: TaskId, *, ends: bool = True, private: bool = True, shared: bool = False, continues: bool = False
    ) -> None:
        """A task with a winner and a loser.

        Args:
            shared: both have a file that every such task's miners have.
            continues: its base was made for it.
        """
        prepared = replace(
            PREPARED,
            train=Blob(self.blob(f"{task_id} train"), SIZE),
            held_out=Blob(self.blob(f"{task_id} held"), SIZE),
            parent=self.parent(task_id) if continues else None,
        )
        assigned(
            self.ledger,
            [WINNER, LOSER],
            replace(request_for(), private=private),
            prepared=prepared,
            task_id=task_id,
        )
        claim = claimed(self.ledger, TaskState.ASSIGNED)
        for hotkey in (WINNER, LOSER):
            files = {"w": self.blob(f"{task_id} {hotkey}"), **({"c": self.blob("shared")} if shared else {})}
            folder = self.folders.submission(task_id, hotkey)
            folder.mkdir(parents=True)
            for name, sha256 in files.items():
                os.link(self.store.path(sha256), folder / name)
            manifest = {"files": {name: {"sha256": sha256, "size_bytes": SIZE} for name, sha256 in files.items()}}
            self.ledger.submissions.collected(
                claim.lease, hotkey, manifest=json.dumps(manifest), manifest_sha256="f" * 64, committed_at_block=11
            )
        job = self.folders.job(task_id, "measure")
        job.mkdir(parents=True)
        (job / "scratch").write_bytes(bytes(SIZE))
        sheet = self.folders.contact_sheet(task_id)
        sheet.parent.mkdir(parents=True)
        sheet.write_bytes(bytes(SIZE))
        if not ends:
            return
        placings = [Placing(WINNER, 1, 1.0, 1.0, "best"), Placing(LOSER, 2, 0.0, 0.0, "second")]
        self.ledger.tasks.advance(
            claim.lease,
            came_from=TaskState.ASSIGNED,
            to=TaskState.SCORED,
            also=lambda session: add_placings(
                session, claim.task, placings, rules_version=2, factor=1.0, now=self.clock.time
            ),
        )

    def parent(self, task_id: TaskId) -> Parent:
        sha256, folder = self.blob(f"{task_id} base"), self.folders.base(task_id)
        folder.mkdir(parents=True)
        os.link(self.store.path(sha256), folder / "model.safetensors")
        return Parent(FIRST, WINNER, "f" * 64, "b" * 64, (("model.safetensors", Blob(sha256, SIZE)),))

    def has(self, task_id: TaskId) -> set[str]:
        """What is here of a task, blobs and folders agreeing."""
        blobs = self.store.sizes()
        there = {what for what in ("train", "held") if digest(f"{task_id} {what}") in blobs}
        for hotkey in (WINNER, LOSER):
            folder = self.folders.submission(task_id, hotkey)
            assert folder.is_dir() == (digest(f"{task_id} {hotkey}") in blobs)
            there |= {hotkey} if folder.is_dir() else set()
        assert self.folders.base(task_id).is_dir() == (digest(f"{task_id} base") in blobs)
        there |= {"base"} if self.folders.base(task_id).is_dir() else set()
        there |= {"jobs"} if self.folders.jobs(task_id).is_dir() else set()
        return there | ({"sheet"} if self.folders.contact_sheet(task_id).is_file() else set())


ALL = {"train", "held", WINNER, LOSER, "jobs", "sheet"}


def digest(name: str) -> str:
    return hashlib.sha256(name.encode().ljust(SIZE, b".")).hexdigest()


@pytest.fixture
def box(ledger: Ledger, clock: HandClock, tmp_path: Path) -> Box:
    return Box(ledger, clock, tmp_path)


def test_a_private_task_keeps_all_for_a_grace_then_its_winner_and_then_nothing(box: Box) -> None:
    box.task(FIRST)
    end = box.clock.time
    box.clock.time = end + 47 * HOUR
    assert sum(box.pruner().prune().values()) == 0
    assert box.has(FIRST) == ALL

    box.clock.time = end + 49 * HOUR
    assert box.pruner().prune(only_look=True) == {"tasks": SIZE, "blobs": 3 * SIZE, "uploads": 0}
    assert box.has(FIRST) == ALL
    assert box.pruner().prune() == {"tasks": SIZE, "blobs": 3 * SIZE, "uploads": 0}  # scratch; two of rows, one model
    assert box.has(FIRST) == {WINNER, "sheet"}

    box.clock.time = end + 91 * DAY
    assert box.pruner().prune() == {"tasks": SIZE, "blobs": SIZE, "uploads": 0}
    assert not box.folders.task(FIRST).exists()
    assert box.store.sizes() == {}
    assert sum(box.pruner().prune().values()) == 0


def test_since_when_a_model_is_gone_is_written_down_once(box: Box) -> None:
    box.task(FIRST)
    box.pruner().prune()
    assert box.ledger.submissions.dropped_at(FIRST) == {}
    box.clock.time += 49 * HOUR
    box.pruner().prune(only_look=True)
    assert box.ledger.submissions.dropped_at(FIRST) == {}
    box.pruner().prune()
    told = {LOSER: box.clock.time}
    assert box.ledger.submissions.dropped_at(FIRST) == told
    box.clock.time += DAY
    box.pruner().prune()
    assert box.ledger.submissions.dropped_at(FIRST) == told
    box.clock.time += 91 * DAY
    box.pruner().prune()
    assert box.ledger.submissions.dropped_at(FIRST) == {**told, WINNER: box.clock.time}


def test_what_auditors_download_is_kept_as_long_as_the_record_says(box: Box) -> None:
    box.task(FIRST, private=False)
    end = box.clock.time
    box.clock.time = end + 29 * DAY
    box.pruner().prune()
    assert box.has(FIRST) == ALL - {"jobs"}
    box.clock.time = end + 31 * DAY
    box.pruner().prune()
    assert box.has(FIRST) == {WINNER, "sheet"}


def test_the_same_goes_on_every_database(database_url: str, clock: HandClock, tmp_path: Path) -> None:
    ledger = Ledger.open(database_url, clock)
    box = Box(ledger, clock, tmp_path)
    box.task(FIRST)
    box.task(SECOND, ends=False)
    box.clock.time += 49 * HOUR
    box.pruner().prune()
    assert (box.has(FIRST), box.has(SECOND)) == ({WINNER, "sheet"}, ALL)
    ledger.engine.dispose()


def test_an_unfinished_task_loses_nothing_however_old_it_is(box: Box) -> None:
    box.task(FIRST, ends=False)
    box.clock.time += 1000 * DAY
    assert sum(box.pruner(KeepSettings(most_bytes=1)).prune().values()) == 0
    assert box.has(FIRST) == ALL


def test_bytes_that_another_task_names_stay(box: Box) -> None:
    box.task(FIRST, shared=True)
    box.clock.time += 91 * DAY
    box.task(SECOND, shared=True, ends=False)
    box.pruner().prune()
    assert box.store.sizes().keys() == {
        digest("shared"),
        *(digest(f"{SECOND} {what}") for what in ("train", "held", WINNER, LOSER)),
    }


def test_blobs_that_the_ledger_does_not_name_yet_wait_for_longer_than_any_step_takes(box: Box) -> None:
    """Rows of a task that is being prepared, the first files of a repo that is being fetched."""
    sha256 = box.blob("on its way")
    box.clock.time += 7.5 * DAY
    assert box.pruner().prune()["blobs"] == 0
    box.clock.time += DAY
    assert box.pruner().prune()["blobs"] == SIZE
    assert not box.store.has(sha256)


def test_above_the_limit_what_is_nobodys_goes_first_the_oldest_before_the_others(box: Box) -> None:
    box.task(FIRST)
    box.clock.time += HOUR
    box.task(SECOND, private=True)
    begin = box.clock.time
    box.clock.time = begin + 0.5 * HOUR
    assert box.pruner(KeepSettings(most_bytes=6 * SIZE)).prune()["blobs"] == 2 * SIZE  # of 8
    assert box.has(SECOND) == ALL
    box.clock.time = begin + 2 * HOUR
    box.pruner(KeepSettings(most_bytes=1)).prune()
    assert (box.has(FIRST), box.has(SECOND)) == ({WINNER, "sheet"}, {WINNER, "sheet"})


def test_public_models_and_winners_stay_whatever_the_limit(box: Box) -> None:
    box.task(FIRST, private=False)
    box.clock.time += 10 * DAY
    assert box.pruner(KeepSettings(most_bytes=1)).prune()["blobs"] == 0
    assert box.has(FIRST) == ALL - {"jobs"}


def test_metrics_say_what_is_held_and_what_has_gone(box: Box) -> None:
    def figure(name: str, kind: str) -> float:
        return REGISTRY.get_sample_value(name, {"kind": kind}) or 0.0

    gone_before = figure("gradients_pruned_bytes_total", "blobs")
    box.task(FIRST)
    box.pruner().prune()
    held = [figure("gradients_held_bytes", kind) for kind in ("blobs", "tasks", "uploads")]
    box.clock.time += 49 * HOUR
    box.pruner().prune()

    assert held == [4 * SIZE, 2 * SIZE, 0]  # a model's second name is no second model
    assert figure("gradients_held_bytes", "blobs") == SIZE
    assert figure("gradients_pruned_bytes_total", "blobs") - gone_before == 3 * SIZE


def _prune_for_ever(url: str, now: float, folder: Path) -> None:
    clock = HandClock(now)
    ledger = Ledger.open(url, clock)
    while True:
        Box(ledger, clock, folder).pruner().prune()


def test_a_kill_at_any_moment_loses_nothing_that_is_needed(box: Box) -> None:
    spawn = multiprocessing.get_context("spawn")
    tasks = [TaskId(f"instruct-{n:012d}") for n in range(10)]
    for task in tasks:
        box.task(task, shared=True)
    box.clock.time += 49 * HOUR
    url = box.ledger.engine.url.render_as_string()
    for _ in range(2):
        process = spawn.Process(target=_prune_for_ever, args=(url, box.clock.time, box.folder), daemon=True)
        process.start()
        deadline = time.monotonic() + 60
        while box.folders.jobs(tasks[0]).exists() and time.monotonic() < deadline:
            pass
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    box.pruner().prune()
    for task in tasks:
        winner = box.folders.submission(task, WINNER)
        assert (winner / "w").read_bytes() == f"{task} {WINNER}".encode().ljust(SIZE, b".")
        assert box.store.check(digest("shared")).is_file()
        assert box.store.check(digest(f"{task} {WINNER}")).is_file()


def test_a_base_that_was_made_for_a_task_stays_as_long_as_its_winner(box: Box) -> None:
    box.task(FIRST, continues=True)
    box.task(SECOND, ends=False, continues=True)
    box.clock.time += 49 * HOUR
    box.pruner().prune()
    assert box.has(FIRST) == {WINNER, "sheet", "base"}
    box.clock.time += 89 * DAY
    box.pruner().prune()
    assert box.has(FIRST) == set()
    assert box.has(SECOND) == {"train", "held", WINNER, LOSER, "jobs", "sheet", "base"}


def test_a_base_whose_task_was_never_scored_goes_as_early_as_its_rows(box: Box) -> None:
    """A task that is posted and taken back costs a customer nothing, so it must not cost the disk for months."""
    prepared = replace(
        PREPARED,
        train=Blob(box.blob("train"), SIZE),
        held_out=Blob(box.blob("held"), SIZE),
        parent=box.parent(SECOND),
    )
    opened(box.ledger, request_for(), prepared=prepared, task_id=SECOND)
    box.ledger.tasks.cancel(SECOND)
    box.clock.time += 47 * HOUR
    box.pruner().prune()
    assert (box.folders.base(SECOND).is_dir(), len(box.store.sizes())) == (True, 3)
    box.clock.time += 2 * HOUR
    box.pruner().prune()
    assert (box.folders.base(SECOND).is_dir(), len(box.store.sizes())) == (False, 0)


def test_bases_of_unfinished_tasks_stay_in_the_cache_whatever_its_limit(box: Box, tmp_path: Path) -> None:
    cache = tmp_path / "bases"
    for name in ("org--needed@main", "org--other@main"):
        (cache / name).mkdir(parents=True)
        (cache / name / "model.safetensors").write_bytes(bytes(SIZE))
        os.utime(cache / name, (0, 0))
    request = replace(request_for(), base="org/needed@main")
    box.ledger.tasks.create(FIRST, request, customer="acme", salt=b"s" * 32)
    uploads = Uploads(box.folders.uploads, box.ledger.uploads, 1000, 1000)
    keep, bases = KeepSettings(caches_most_bytes=1), BaseModels.default(cache)
    Pruner(box.ledger, box.folders, box.store, uploads, box.clock, keep, bases).keep_bases()
    assert sorted(folder.name for folder in cache.iterdir() if folder.is_dir()) == ["org--needed@main"]
