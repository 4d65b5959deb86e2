"""A validator's backup: one moment of a ledger that is being written to, every file by its digest, and nothing replaced by restoring."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from gradients.backup import databases, manifest, restoring
from gradients.backup.kept import Kept
from gradients.backup.making import make
from gradients.config import DaemonSettings
from gradients.errors import GradientsError, SetupError
from gradients.testing.clock import HandClock
from validator.folders import Folders
from validator.kept import kept
from validator.ledger import Ledger
from validator.ledger.customers import keep_local_key
from validator.measuring.sketches import SketchSecret
from validator.settings import ValidatorSettings


def settings_of(folder: Path, url: str | None = None) -> ValidatorSettings:
    return ValidatorSettings(folder=folder, ledger_url=url)


def inhabited(folder: Path, clock: HandClock, url: str | None = None) -> tuple[Kept, str]:
    """A folder that a validator has worked in, and the key of a customer of its ledger."""
    settings, folders = settings_of(folder, url), Folders(folder)
    ledger = Ledger.open(settings.resolved_ledger_url(), clock)
    keep_local_key(ledger.customers, folders.api_key)
    key = ledger.customers.issue("first")
    SketchSecret.kept_in(folders.sketch_secret)
    blob = folders.blobs / "sha256" / "ab" / "abcd"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"rows" * 1000)
    blob.chmod(0o400)
    submission = folders.submission("t1", "5F")
    submission.mkdir(parents=True)
    os.link(blob, submission / "model.safetensors")
    for scratch in (
        folders.job("t1", "measure") / "job.json",
        folders.workers / "log",
        folder / ".lock",
        blob.with_suffix(".part"),
    ):
        scratch.parent.mkdir(parents=True, exist_ok=True)
        scratch.touch()
    ledger.engine.dispose()
    return kept(settings), key


@pytest.fixture
def here(tmp_path: Path, clock: HandClock) -> tuple[Kept, str]:
    return inhabited(tmp_path / "val", clock)


def test_what_is_restored_is_what_was_there(database_url: str, tmp_path: Path, clock: HandClock) -> None:
    outside = database_url if database_url.startswith("postgres") else None
    there, key = inhabited(tmp_path / "val", clock, outside)
    make(there, tmp_path / "copy", clock)
    if outside is not None:
        engine = Ledger.open(outside, clock).engine
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        engine.dispose()
    restoring.restore(tmp_path / "copy", kept(settings_of(tmp_path / "new", outside)))
    again = Folders(tmp_path / "new")
    assert again.api_key.read_text() == Folders(there.folder).api_key.read_text()
    blob, model = again.blobs / "sha256" / "ab" / "abcd", again.submission("t1", "5F") / "model.safetensors"
    assert blob.read_bytes() == b"rows" * 1000
    assert blob.stat().st_ino == model.stat().st_ino
    assert stat.S_IMODE(blob.stat().st_mode) == 0o400
    ledger = Ledger.open(settings_of(tmp_path / "new", outside).resolved_ledger_url(), clock)
    assert ledger.customers.of_key(key) == "first"
    ledger.engine.dispose()


def test_what_the_next_start_makes_anew_is_not_in_it(here: tuple[Kept, str], tmp_path: Path, clock: HandClock) -> None:
    made = make(here[0], tmp_path / "copy", clock)
    assert {file.path for file in made.files} == {
        "database",
        "folder/api.key",
        "folder/sketch.secret",
        "folder/blobs/sha256/ab/abcd",
        "folder/tasks/t1/submissions/5F/model.safetensors",
    }


def test_records_only_is_ledger_and_secrets(here: tuple[Kept, str], tmp_path: Path, clock: HandClock) -> None:
    made = make(here[0], tmp_path / "copy", clock, whole=False)
    assert {file.path for file in made.files} == {"database", "folder/api.key", "folder/sketch.secret"}
    assert not made.is_whole


def test_nobody_else_can_read_it(here: tuple[Kept, str], tmp_path: Path, clock: HandClock) -> None:
    make(here[0], tmp_path / "copy", clock)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o700


def test_a_ledger_that_is_being_written_to_is_copied_as_of_one_moment(
    here: tuple[Kept, str], tmp_path: Path, clock: HandClock
) -> None:
    """Two numbers that every transaction raises together; a torn copy would have two different ones."""
    file, begun, stop = here[0].folder / "ledger.db", threading.Event(), threading.Event()
    with closing(sqlite3.connect(file)) as ledger:
        ledger.execute("CREATE TABLE pair (id INTEGER PRIMARY KEY, n INTEGER, pad BLOB)")
        ledger.executemany("INSERT INTO pair VALUES (?, 0, zeroblob(300000))", [(1,), (2,)])
        ledger.commit()

    def write() -> None:
        with closing(sqlite3.connect(file, timeout=120)) as writer:
            while not stop.is_set():
                with writer:
                    writer.execute("UPDATE pair SET n = n + 1 WHERE id = 1")
                    writer.execute("UPDATE pair SET n = n + 1 WHERE id = 2")
                begun.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert begun.wait(120)
    try:
        for number in range(4):
            make(here[0], tmp_path / f"copy{number}", clock, whole=False)
    finally:
        stop.set()
        thread.join()
    seen = []
    for number in range(4):
        with closing(sqlite3.connect(tmp_path / f"copy{number}" / "database")) as copy:
            (one,), (other,) = copy.execute("SELECT n FROM pair ORDER BY id").fetchall()
            assert one == other
            assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            seen.append(one)
    assert seen == sorted(seen)
    assert seen[-1] > 0


def restored(tmp_path: Path, folder: str = "new") -> None:
    restoring.restore(tmp_path / "copy", kept(settings_of(tmp_path / folder)))


def lose_a_byte(copy: Path) -> None:
    (copy / "folder" / "blobs" / "sha256" / "ab" / "abcd").write_bytes(b"rowz" * 1000)


def lose_a_file(copy: Path) -> None:
    (copy / "folder" / "api.key").unlink()


def lose_the_manifest(copy: Path) -> None:
    (copy / "manifest.json").unlink()


def change(**fields: object) -> Callable[[Path], None]:
    def planted(copy: Path) -> None:
        listed = json.loads((copy / "manifest.json").read_text())
        (copy / "manifest.json").write_text(json.dumps(listed | fields))

    return planted


def lead_out(copy: Path) -> None:
    listed = json.loads((copy / "manifest.json").read_text())
    listed["files"][0]["path"] = "folder/../../out"
    (copy / "manifest.json").write_text(json.dumps(listed))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lose_a_byte, "folder/blobs/sha256/ab/abcd is not what it was when the backup was made"),
        (lose_a_file, "folder/api.key is missing"),
        (lose_the_manifest, "is not a backup"),
        (change(database_schema="9999_future"), "has the schema 9999_future, and this version knows those up to"),
        (change(format=2, more=True), "has the form 2, and this version knows forms up to 1"),
        (change(role="miner"), "is of a miner, not of a validator"),
        (change(made_at="soon"), "The manifest of"),
        (lead_out, "leads out of the backup"),
    ],
)
def test_a_backup_that_cannot_be_gone_on_with_is_refused_by_name_and_nothing_is_made(
    fault: Callable[[Path], None], said: str, here: tuple[Kept, str], tmp_path: Path, clock: HandClock
) -> None:
    make(here[0], tmp_path / "copy", clock)
    fault(tmp_path / "copy")
    with pytest.raises(GradientsError, match=said):
        restored(tmp_path)
    assert not (tmp_path / "new").exists()


def test_what_is_there_is_never_replaced(here: tuple[Kept, str], tmp_path: Path, clock: HandClock) -> None:
    make(here[0], tmp_path / "copy", clock)
    with pytest.raises(SetupError, match="is not an empty folder"):
        restored(tmp_path, "val")
    with pytest.raises(SetupError, match="is not an empty folder"):
        make(here[0], tmp_path / "copy", clock)
    elsewhere = settings_of(tmp_path / "new", f"sqlite:///{here[0].folder}/ledger.db")
    with pytest.raises(SetupError, match="There is something in the ledger already"):
        restoring.restore(tmp_path / "copy", kept(elsewhere))
    (tmp_path / "new").mkdir()
    restored(tmp_path)
    assert (tmp_path / "new" / "ledger.db").is_file()


def test_a_backup_is_not_made_inside_of_what_it_is_of_nor_of_nothing(
    here: tuple[Kept, str], tmp_path: Path, clock: HandClock
) -> None:
    with pytest.raises(SetupError, match="lies in what is to be kept"):
        make(here[0], here[0].folder / "copy", clock)
    with pytest.raises(SetupError, match="No validator has worked in"):
        make(kept(settings_of(tmp_path / "nowhere")), tmp_path / "copy", clock)


def test_a_ledger_that_is_corrupt_is_not_taken_for_a_backup(
    here: tuple[Kept, str], tmp_path: Path, clock: HandClock
) -> None:
    (here[0].folder / "ledger.db").write_bytes(b"not a database" * 1000)
    for beside in ("-wal", "-shm"):
        (here[0].folder / f"ledger.db{beside}").unlink(missing_ok=True)
    with pytest.raises(SetupError, match="is corrupt") as refused:
        make(here[0], tmp_path / "copy", clock)
    assert refused.value.code == "ledger_corrupt"
    assert list(tmp_path.glob("*copy*")) == []


def test_the_settings_file_goes_with_it_wherever_it_lies(
    here: tuple[Kept, str], tmp_path: Path, clock: HandClock
) -> None:
    outside, inside = tmp_path / "etc.toml", here[0].folder / "settings.toml"
    for number, (file, place) in enumerate(((outside, "settings.toml"), (inside, "folder/settings.toml"))):
        file.write_text("[chain]\nnetuid = 3\n")
        made = make(here[0], tmp_path / f"copy{number}", clock, settings=file)
        assert made.settings == place
        assert DaemonSettings.load(tmp_path / f"copy{number}" / place, {}).chain.netuid == 3
        assert place in {each.path for each in manifest.read(tmp_path / f"copy{number}").files}


def test_a_ledger_that_is_put_back_is_what_it_was_without_what_a_newer_version_made(
    database_url: str, tmp_path: Path, clock: HandClock
) -> None:
    ledger = Ledger.open(database_url, clock)
    key = ledger.customers.issue("first")
    ledger.engine.dispose()
    databases.snapshot(database_url, tmp_path / "copy")
    again = Ledger.open(database_url, clock)
    with again.engine.begin() as connection:
        connection.execute(text("CREATE TABLE more (id INTEGER PRIMARY KEY)"))
        connection.execute(text("INSERT INTO more VALUES (1)"))
        connection.execute(text("CREATE TABLE most (id INTEGER REFERENCES more (id))"))
        connection.execute(text("DELETE FROM api_keys"))
    again.engine.dispose()
    databases.put_back(tmp_path / "copy", database_url)
    back = Ledger.open(database_url, clock)
    assert not {"more", "most"} & set(inspect(back.engine).get_table_names())
    assert back.customers.of_key(key) == "first"
    back.engine.dispose()
