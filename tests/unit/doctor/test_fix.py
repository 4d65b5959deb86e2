"""What `doctor --fix` does: only what loses and costs nothing, told one by one, and never in a running daemon's way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from gradients.doctor.findings import Finding, mended
from gradients.errors import SetupError
from gradients.files.locks import only_one
from gradients.testing.clock import HandClock
from miner.doctor import sweep as sweep_of_miner
from miner.journal import RECORD
from miner.settings import MinerSettings
from validator import doctor
from validator.cli import known_ledger
from validator.ledger.examination import MIGRATIONS, examine
from validator.settings import ValidatorSettings


def older_ledger(folder: Path) -> None:
    """A ledger as the version before this one has left it."""
    folder.mkdir(mode=0o700)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = create_engine(f"sqlite:///{folder}/ledger.db")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head-1")
    engine.dispose()


@pytest.fixture
def settings(tmp_path: Path) -> ValidatorSettings:
    older_ledger(tmp_path / "validator")
    return ValidatorSettings(folder=tmp_path / "validator")


def test_an_older_ledger_is_backed_up_and_migrated(settings: ValidatorSettings, tmp_path: Path) -> None:
    found = doctor.ledger(settings, HandClock(), at_work=False)
    assert (found.name, found.level, "gradients backup" in found.advice) == ("ledger", "note", True)
    [told] = mended([found])
    assert (told.name, told.level) == ("mended", "ok")
    [backup] = (tmp_path / "backups").iterdir()
    assert str(backup) in told.found
    assert examine(f"sqlite:///{backup}/database").is_behind
    after = doctor.ledger(settings, HandClock(), at_work=False)
    assert (after.level, after.mend, "of this version's schema" in after.found) == ("ok", None, True)


def test_a_ledger_at_which_somebody_works_is_left_alone(settings: ValidatorSettings, tmp_path: Path) -> None:
    assert doctor.ledger(settings, HandClock(), at_work=True).mend is None
    found = doctor.ledger(settings, HandClock(), at_work=False)
    with only_one(settings.folder, what="validator"):  # it was started after the look
        [told] = mended([found])
    assert (told.name, told.level) == ("unmended", "note")
    assert "Another validator is at work" in told.found
    assert not (tmp_path / "backups").exists()
    assert examine(settings.resolved_ledger_url()).is_behind


def test_a_short_disk_is_swept_of_what_the_ledger_lets_go(settings: ValidatorSettings) -> None:
    assert list(doctor.sweep(settings, HandClock())) == []  # no validator has worked here
    (settings.folder / "api.key").write_text("key")
    mended([doctor.ledger(settings, HandClock(), at_work=False)])
    [found] = doctor.sweep(settings, HandClock())
    [told] = mended([found])
    assert (told.name, told.level, told.found.startswith("sweep: ")) == ("mended", "ok", True)
    assert "0 bytes" in told.found


def test_a_ledger_whose_backup_found_no_room_is_not_migrated_by_what_is_mended_next(
    settings: ValidatorSettings,
) -> None:
    (settings.folder / "api.key").write_text("key")
    (settings.folder.parent / "backups").write_text("in the way")
    [found] = doctor.sweep(settings, HandClock())
    ledger, swept = mended([doctor.ledger(settings, HandClock(), at_work=False), found])
    assert (ledger.name, swept.name, "gradients validator migrate" in swept.advice) == ("unmended", "unmended", True)
    assert examine(settings.resolved_ledger_url()).is_behind


def test_no_command_but_migrate_takes_away_the_way_back(settings: ValidatorSettings) -> None:
    with pytest.raises(SetupError) as caught:
        known_ledger(settings)
    assert caught.value.code == "ledger_older"
    assert examine(settings.resolved_ledger_url()).is_behind
    known_ledger(settings, migrate=True)[0].engine.dispose()
    known_ledger(settings)[0].engine.dispose()


def test_a_miner_is_not_swept_while_no_chain_says_which_tasks_are_over(tmp_path: Path) -> None:
    settings = MinerSettings.model_validate(
        {"folder": tmp_path, "chain": {"network": "ws://127.0.0.1:1", "start_seconds": 1}}
    )
    assert list(sweep_of_miner(settings)) == []
    (tmp_path / "tasks" / "instruct-0123456789ab").mkdir(parents=True)
    (record := tmp_path / "tasks" / "instruct-0123456789ab" / RECORD).write_text("{}")
    [told] = mended(sweep_of_miner(settings))
    assert (told.name, record.is_file()) == ("unmended", True)
    assert "127.0.0.1:1" in told.found


def test_what_fails_is_told_and_what_follows_is_mended_all_the_same() -> None:
    def refuse() -> str:
        raise SetupError("It is somebody else's", fix="Ask them")

    def fail() -> str:
        raise PermissionError(13, "Permission denied", "/somewhere")

    findings = [
        Finding("a", "note", "open", "close it", refuse),
        Finding("b", "note", "open", "close it", fail),
        Finding("c", "missing", "no wallet", "make one"),
        Finding("d", "note", "open", "close it", lambda: "closed"),
    ]
    assert [(each.name, each.found, each.advice) for each in mended(findings)] == [
        ("unmended", "a: It is somebody else's", "Ask them"),
        ("unmended", "b: [Errno 13] Permission denied: '/somewhere'", "close it"),
        ("mended", "d: closed", ""),
    ]


def test_the_command_tells_what_it_did_and_what_is_left(tmp_path: Path) -> None:
    older_ledger(tmp_path / "validator")
    named = ["--folder", str(tmp_path / "validator"), "-n", "ws://127.0.0.1:1", "-w", "nobody"]
    asked = [sys.executable, "-m", "gradients.cli", "validator", "doctor", "--fix", "--json", *named]
    run = subprocess.run(asked, capture_output=True, text=True, timeout=600, check=False)
    found = {each["name"]: each for each in json.loads(run.stdout)}
    assert run.returncode == 1  # neither wallet nor chain can be made
    assert found["mended"]["found"].startswith("ledger: it has this version's schema")
    assert found["ledger"]["level"] == "ok"
    assert {"wallet", "chain"} <= set(run.stderr.partition("left to you: ")[2].strip().split(", "))
