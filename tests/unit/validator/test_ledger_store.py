"""Opening the ledger, and what its database may do to it: be full, be locked, be elsewhere, be of a kind that is not installed."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import event

from gradients.domain.task import TaskState
from gradients.errors import DiskFull, OperatorError, SetupError
from gradients.testing.clock import HandClock
from tests.unit.validator.market import claimed, draft, full_disk
from validator.ledger import Ledger


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
    assert "gradients-subnet[postgres]" in said
    assert "secret" not in said


def test_a_server_that_is_not_there_is_named_without_its_password(clock: HandClock) -> None:
    with pytest.raises(SetupError, match="cannot be opened") as caught:
        Ledger.open("postgresql://me:secret@127.0.0.1:9/ledger", clock)
    assert "secret" not in str(caught.value)
