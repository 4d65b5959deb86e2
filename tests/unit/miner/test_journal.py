"""What the miner has promised and done, as it lies on disk."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gradients.errors import SetupError
from miner.journal import RECORD, REPO, Journal, Record, openings
from tests.unit.miner.fakes import OTHER_TASK, TASK, start


def record(task_id: str = TASK, *, accepted_at: float = 1.0, reveal_until_block: int = 160) -> Record:
    message = start(task_id, reveal_until_block=reveal_until_block)
    return Record(start=message, validator="validator", accepted_at=accepted_at, salt="5a" * 32)


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    Journal(tmp_path).write(record())
    changed = Journal(tmp_path).change(TASK, train_until=5.5, manifest="{}", leaves=("aa", "bb"))
    assert Journal(tmp_path).find(TASK) == changed
    assert (changed.train_until, changed.manifest, changed.leaves) == (5.5, "{}", ("aa", "bb"))


def test_records_come_oldest_first(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write(record(accepted_at=2.0))
    journal.write(record(OTHER_TASK, accepted_at=1.0))
    assert [each.task_id for each in journal.all()] == [OTHER_TASK, TASK]
    assert [each.task_id for each in Journal(tmp_path).all()] == [OTHER_TASK, TASK]


@pytest.mark.parametrize(
    ("changes", "phase"),
    [
        ({}, "training"),
        ({"train_until": 9.0}, "training"),
        ({"manifest": "{}"}, "trained"),
        ({"manifest": "{}", "leaves": ("aa",)}, "trained"),  # sent, but not known to stand
        ({"manifest": "{}", "leaves": ("aa",), "committed_at_block": 12}, "committed"),
        ({"manifest": "{}", "committed_at_block": 12, "failure": "x"}, "failed"),
    ],
)
def test_the_phase_is_what_is_true(changes: dict[str, object], phase: str) -> None:
    assert record().model_copy(update=changes).phase == phase


def test_a_write_that_a_kill_cut_off_leaves_the_last_record(tmp_path: Path) -> None:
    Journal(tmp_path).write(record())
    (tmp_path / TASK / f".{RECORD}.part").write_text('{"start": {"off')
    assert Journal(tmp_path).find(TASK) == record()


def test_a_journal_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    Journal(tmp_path).write(record())
    (tmp_path / TASK / RECORD).write_text("{}")
    with pytest.raises(SetupError, match="cannot be read") as caught:
        Journal(tmp_path)
    assert caught.value.fix == "Move it away to start afresh"


def test_a_full_disk_is_named_and_the_old_record_stays(tmp_path: Path) -> None:
    Journal(tmp_path).write(record())
    size = (tmp_path / TASK / RECORD).stat().st_size
    script = f"""
        import resource, sys
        from pathlib import Path
        from gradients.errors import DiskFull
        from miner.journal import Journal
        journal = Journal(Path({str(tmp_path)!r}))
        resource.setrlimit(resource.RLIMIT_FSIZE, ({size + 10}, {size + 10}))
        try:
            journal.change({TASK!r}, manifest="x" * 10_000)
        except DiskFull as error:
            assert journal.find({TASK!r}).manifest is None, "memory and disk differ"
            sys.exit(str(error))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, env=os.environ, check=False
    )
    assert run.stderr.strip() == f"There is no room for record.json in {tmp_path / TASK}. Free some space"
    assert Journal(tmp_path).find(TASK) == record()
    assert [file.name for file in (tmp_path / TASK).iterdir()] == [RECORD]


def test_openings_are_of_whole_submissions_until_their_reveal_ends() -> None:
    whole = record().model_copy(update={"manifest": "{}"})
    others = [record(OTHER_TASK), whole.model_copy(update={"failure": "x", "start": start(OTHER_TASK)})]
    for block, tasks in ((0, [TASK]), (160, [TASK]), (161, [])):
        assert list(openings([whole, *others], netuid=3, hotkey="hot", block=block)) == tasks


@pytest.mark.parametrize(
    ("reveal_until_block", "changes", "swept"),
    [
        (160, {"failure": "x"}, True),
        (160, {"manifest": "{}", "committed_at_block": 50}, True),
        (161, {"failure": "x"}, False),
        (160, {}, False),
        (160, {"manifest": "{}"}, False),
    ],
    ids=["failed", "committed", "still revealed", "still training", "not committed yet"],
)
def test_a_sweep_leaves_the_record_and_what_may_still_be_needed(
    tmp_path: Path, reveal_until_block: int, changes: dict[str, object], swept: bool
) -> None:
    journal = Journal(tmp_path)
    journal.write(record(reveal_until_block=reveal_until_block).model_copy(update=changes))
    (tmp_path / TASK / "repo").mkdir()
    (tmp_path / TASK / "repo" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / TASK / "train.jsonl").write_bytes(b"{}")
    assert journal.sweep(block=161) == ([TASK] if swept else [])
    assert journal.sweep(block=161) == []
    left = [RECORD] if swept else [RECORD, "repo", "train.jsonl"]
    assert sorted(path.name for path in (tmp_path / TASK).iterdir()) == left


def with_files(journal: Journal, folder: Path, task_id: str, *, accepted_at: float, **changes: object) -> None:
    """A task with 1,000 bytes of rows and 500 of a repo."""
    journal.write(record(task_id, accepted_at=accepted_at).model_copy(update=changes))
    (folder / task_id / REPO).mkdir()
    (folder / task_id / REPO / "model.safetensors").write_bytes(bytes(500))
    (folder / task_id / "train.jsonl").write_bytes(bytes(1000))


def test_above_the_limit_files_go_that_nobody_can_ask_for_and_a_repo_that_is_not_revealed_stays(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    done: dict[str, object] = {"manifest": "{}", "leaves": ("aa",), "committed_at_block": 50}
    with_files(journal, tmp_path, TASK, accepted_at=1.0, **done)
    with_files(journal, tmp_path, OTHER_TASK, accepted_at=2.0, failure="x")
    with_files(journal, tmp_path, "instruct-000000000003", accepted_at=0.0)  # in training
    records = sum(file.stat().st_size for file in tmp_path.glob(f"*/{RECORD}"))

    assert journal.keep_within(records + 4500, block=100) == []
    assert journal.keep_within(records + 4499, block=100) == [OTHER_TASK]
    assert journal.keep_within(records + 2999, block=100) == [TASK]
    assert journal.free_bytes() == 999  # the training's 1,500 and the repo's 500 are needed
    assert journal.keep_within(1, block=100) == []
    assert journal.free_bytes() == 0
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left - {f"{TASK}/{RECORD}", f"{OTHER_TASK}/{RECORD}", f"instruct-000000000003/{RECORD}"} == {
        f"{TASK}/repo/model.safetensors",
        "instruct-000000000003/repo/model.safetensors",
        "instruct-000000000003/train.jsonl",
    }
    assert journal.keep_within(1, block=161) == [TASK]  # its reveal has ended


def test_a_failed_task_whose_root_may_stand_on_chain_keeps_its_files_until_its_reveal_ends(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with_files(journal, tmp_path, TASK, accepted_at=1.0, failure="x", leaves=("aa",))
    assert journal.keep_within(1, block=160) == []
    assert journal.keep_within(1, block=161) == [TASK]
    assert Journal(tmp_path / "nowhere").keep_within(1, block=161) == []
