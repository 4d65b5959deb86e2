"""Opening the ledger, and what its database may do to it: be full, be locked, be elsewhere, be of a kind that is not installed."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, event, text

from gradients.domain.failure import Failure
from gradients.domain.task import TaskState
from gradients.errors import Blame, DiskFull, OperatorError, SetupError
from gradients.extras import how_to_install
from gradients.testing.clock import HandClock
from tests.unit.validator.market import PREPARED, SALT, TASK, claimed, draft, full_disk, request_for
from validator.ledger import Ledger
from validator.ledger.examination import MIGRATIONS


def test_a_full_disk_is_a_failure_of_ours_with_a_name_and_leaves_the_ledger_as_it_was(
    ledger: Ledger, tmp_path: Path
) -> None:
    draft(ledger)
    with full_disk(tmp_path), pytest.raises(DiskFull, match="no room left"):
        claimed(ledger, TaskState.DRAFT)
    assert claimed(ledger, TaskState.DRAFT).attempts == 1


def test_a_ledger_that_somebody_else_has_locked_is_a_failure_of_ours(ledger: Ledger, tmp_path: Path) -> None:
    draft(ledger)
    event.listen(ledger.engine, "checkout", lambda connection, *_: connection.execute("PRAGMA busy_timeout = 50"))
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperatorError, match="locked") as caught:
            claimed(ledger, TaskState.DRAFT)
    assert caught.value.code == "ledger_unavailable"
    assert claimed(ledger, TaskState.DRAFT).attempts == 1


def test_a_ledger_that_cannot_be_opened_says_what_to_check(clock: HandClock) -> None:
    with pytest.raises(SetupError, match="ledger_url"):
        Ledger.open("sqlite:////proc/nowhere/ledger.db", clock)


def test_a_file_that_is_not_a_database_is_called_corrupt_with_what_to_do(clock: HandClock, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no ledger at all" * 512)
    with pytest.raises(SetupError, match="is corrupt: file is not a database") as caught:
        Ledger.open(f"sqlite:///{tmp_path}/ledger.db", clock)
    assert caught.value.code == "ledger_corrupt"
    assert "put a copy that is whole in its place" in str(caught.value)


def test_a_ledger_of_a_newer_version_is_refused_and_left_as_it_is(clock: HandClock, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = Ledger.open(url, clock)
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999_future'"))
    ledger.engine.dispose()
    with pytest.raises(SetupError, match="has the schema 9999_future, and this version knows those up to 0") as caught:
        Ledger.open(url, clock)
    assert caught.value.code == "ledger_newer"
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as file:
        assert file.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999_future",)]


def test_a_page_that_is_damaged_while_the_ledger_is_open_is_a_failure_of_ours(ledger: Ledger, tmp_path: Path) -> None:
    draft(ledger)
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN")
    file = tmp_path / "ledger.db"
    pages = file.stat().st_size // 4096
    with file.open("r+b") as bytes_:
        bytes_.seek(4096)
        bytes_.write(b"\xff" * 4096 * (pages - 1))
    ledger.engine.dispose()
    with pytest.raises(OperatorError, match="The ledger is corrupt") as caught:
        claimed(ledger, TaskState.DRAFT)
    assert caught.value.code == "ledger_corrupt"


def test_a_database_whose_driver_is_not_installed_is_named_with_what_to_install() -> None:
    """In a process of its own, in which nobody finds the driver."""
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from gradients.clock import SystemClock\n"
        "from gradients.errors import SetupError\n"
        "from validator.ledger import Ledger\n"
        "try: Ledger.open('postgresql://me:secret@127.0.0.1/ledger', SystemClock())\n"
        "except SetupError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "needs the Python module psycopg" in said
    assert how_to_install("postgres") in said
    assert "secret" not in said


def test_a_server_that_is_not_there_is_named_without_its_password(clock: HandClock) -> None:
    with pytest.raises(SetupError, match="cannot be opened") as caught:
        Ledger.open("postgresql://me:secret@127.0.0.1:9/ledger", clock)
    assert "secret" not in str(caught.value)


def test_a_ledger_of_an_older_version_goes_on_with_the_words_of_this_one(clock: HandClock, tmp_path: Path) -> None:
    """What revision 0003 wrote: `heldout`, `losses`, and "validator" for a fault of ours."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        prepared = {key.replace("held_out", "heldout"): value for key, value in asdict(PREPARED).items()}
        failure = {"blame": "validator", "code": "evaluation_failed", "message": "The evaluation broke off"}
        task = {
            "id": TASK,
            "state": "collected",
            "created_at": 1.0,
            "customer": "alice",
            "request": asdict(request_for()),
            "salt": SALT,
        }
        leases = {"due_at_block": 0, "due_at": 0.0, "attempts": 3, "lease_token": 0, "lease_expires_at": 0.0}
        _insert(connection, "tasks", task | leases | {"prepared": prepared, "failure": failure})
        submission = {"task_id": TASK, "hotkey": "5A", "uid": 3, "state": "failed", "recipe": "", "failure": failure}
        _insert(connection, "submissions", submission)
        measured = {
            "task_id": TASK,
            "entrant": "base",
            "metric": "loss",
            "metric_version": 1,
            "unit": "nats",
            "better": "lower",
        }
        values = {"value": 2.0, "stderr": 0.1, "losses": [1.9, 2.1], "extras": {}, "measured_at": 1.0}
        _insert(connection, "measurements", measured | values)
    engine.dispose()
    ledger = Ledger.open(url, clock)
    found = ledger.tasks.find(TASK)
    assert found is not None
    assert found.prepared == PREPARED
    assert found.failure == Failure(Blame.OPERATOR, "evaluation_failed", "The evaluation broke off")
    assert [each.failure for each in ledger.submissions.of_task(TASK)] == [found.failure]
    assert [each.per_row for each in ledger.submissions.measurements(TASK).values()] == [(1.9, 2.1)]
    claim = claimed(ledger, TaskState.COLLECTED)
    assert (claim.attempts, claim.outages) == (4, 0)
    ledger.engine.dispose()


def _insert(connection: Connection, table: str, values: Mapping[str, object]) -> None:
    encoded = {key: json.dumps(value) if isinstance(value, dict | list) else value for key, value in values.items()}
    names = ", ".join(encoded)
    connection.execute(
        text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in encoded)})"), encoded
    )


def test_a_ledger_is_its_owners_alone_wherever_it_lies_and_an_open_one_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "elsewhere" / "ledger.db"
    for _ in range(2):
        opened = Ledger.open(f"sqlite:///{file}", HandClock())
        opened.customers.issue("acme")
        assert {stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()} == {0o600}
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        opened.engine.dispose()
        file.chmod(0o644)
