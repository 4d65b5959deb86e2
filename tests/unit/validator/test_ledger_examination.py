"""Looking at a ledger: what it is told to be, on either kind of database, and that looking leaves it as it was."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from gradients.errors import SetupError
from gradients.testing.clock import HandClock
from validator.ledger import Ledger
from validator.ledger.examination import examine


def revise(url: str, revision: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    engine.dispose()


def test_a_ledger_of_this_version_an_older_and_a_newer_one_are_told_apart(database_url: str, clock: HandClock) -> None:
    Ledger.open(database_url, clock).engine.dispose()
    assert examine(database_url).said.endswith("of this version's schema")
    assert not examine(database_url).is_behind
    revise(database_url, "0001")
    assert "of the schema 0001, which the next start brings to 00" in examine(database_url).said
    assert examine(database_url).is_behind
    revise(database_url, "9999_future")
    with pytest.raises(SetupError, match="has the schema 9999_future") as caught:
        examine(database_url)
    assert caught.value.code == "ledger_newer"
    assert "postgres:" not in str(caught.value)  # no password in words


def test_a_database_without_tables_is_one_that_the_first_start_fills(database_url: str) -> None:
    if database_url.startswith("sqlite"):
        sqlite3.connect(database_url.partition(":///")[2]).close()
    assert "yet" in examine(database_url).said or "without tables" in examine(database_url).said


def test_a_ledger_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert examine(f"sqlite:///{tmp_path}/ledger.db").said.startswith("none at")
    assert list(tmp_path.iterdir()) == []


def test_a_running_validators_ledger_is_looked_at_without_being_in_its_way(ledger: Ledger, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    with ledger.engine.connect() as connection:
        before = connection.exec_driver_sql("PRAGMA data_version").scalar()
        connection.rollback()
        assert "of this version's schema" in examine(url).said
        assert connection.exec_driver_sql("PRAGMA data_version").scalar() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_ledger_that_this_user_may_not_write_says_so(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").chmod(0o400)
    with pytest.raises(SetupError, match="cannot be used") as caught:
        examine(f"sqlite:///{tmp_path}/ledger.db")
    assert "this user may write" in str(caught.value)


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(SetupError, match="does not answer") as caught:
        examine("postgresql+psycopg://me:secret@127.0.0.1:1/ledger")
    assert "secret" not in str(caught.value)


def test_a_damaged_page_is_found_though_the_file_opens(ledger: Ledger, tmp_path: Path) -> None:
    ledger.engine.dispose()
    file = tmp_path / "ledger.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'tasks'").fetchone()
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with file.open("r+b") as bytes_:
        bytes_.seek((root - 1) * size)
        bytes_.write(b"\xff" * size)
    with pytest.raises(SetupError) as caught:
        examine(f"sqlite:///{file}")
    assert caught.value.code == "ledger_corrupt"
