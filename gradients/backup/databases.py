"""Databases as one file and back: SQLite by its online backup, PostgreSQL by pg_dump. A daemon may be at work on the one that is read."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Literal

from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from gradients.config import environment_without
from gradients.errors import OperatorError, SetupError
from gradients.files.disk import writing
from gradients.files.whole import sync

ALEMBIC = "SELECT version_num FROM alembic_version"
_SERVER_SECONDS = 6 * 3600.0  # for a dump of whatever size


def backend(url: str) -> Literal["sqlite", "postgresql"]:
    """Which kind it is. Raises SetupError for one that there is no backup of."""
    match make_url(url).get_backend_name():
        case "sqlite":
            return "sqlite"
        case "postgresql":
            return "postgresql"
        case name:
            raise SetupError(f"There is no backup of {name} here", fix="Take one by the database's own tools")


def is_there(url: str) -> bool:
    """Whether a database holds tables, or for SQLite whether there is a file. Raises SetupError when a server does not answer."""
    address = make_url(url)
    if address.get_backend_name() == "sqlite":
        return Path(address.database or "").is_file()
    try:
        engine = create_engine(url)
        names = inspect(engine).get_table_names()
        engine.dispose()
    except (SQLAlchemyError, OSError) as error:
        raise _silent(address, error) from error
    return bool(names)


def snapshot(url: str, to: Path) -> str | None:
    """A copy of the database as it is at one moment, in one file; the revision of its schema.

    Raises SetupError when it cannot be read, DiskFull and OperatorError when the copy cannot be written.
    """
    address = make_url(url)
    if backend(url) == "sqlite":
        return _snapshot_file(Path(address.database or ""), to)
    try:
        engine = create_engine(url)
        with engine.connect() as connection:
            revision = connection.scalar(text(ALEMBIC))
        engine.dispose()
    except (SQLAlchemyError, OSError) as error:
        raise _silent(address, error) from error
    _run(address, "pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={to}")
    to.chmod(0o600)
    return str(revision) if revision else None


def put(file: Path, url: str) -> None:
    """Make the database at `url`, which holds nothing yet, what `file` is a copy of. Raises SetupError and OperatorError."""
    address = make_url(url)
    if backend(url) == "sqlite":
        ledger = Path(address.database or "")
        ledger.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with writing(ledger):
            shutil.copyfile(file, ledger)
            ledger.chmod(0o600)
        return
    _run(address, "pg_restore", "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", str(file))


def put_back(file: Path, url: str) -> None:
    """Make the database at `url`, whatever it holds now, what `file` is a copy of. Nobody may be at work on it."""
    address = make_url(url)
    if backend(url) == "sqlite":
        _put_file_back(file, Path(address.database or ""))
        return
    _drop_newer(file, url)
    _run(
        address,
        "pg_restore",
        "--no-owner",
        "--no-privileges",
        "--clean",
        "--if-exists",
        "--single-transaction",
        str(file),
    )


def _put_file_back(file: Path, ledger: Path) -> None:
    """The copy in the ledger's place, its owner's as before, who need not be who puts it back."""
    part = ledger.with_name(f"{ledger.name}.back")
    with writing(ledger):
        about = (ledger if ledger.exists() else ledger.parent).stat()
        shutil.copyfile(file, part)
        part.chmod(0o600)
        os.chown(part, about.st_uid, about.st_gid)
        sync(part)
        for beside in ("-wal", "-shm"):  # of what stands there now: they would be played into the copy
            Path(f"{ledger}{beside}").unlink(missing_ok=True)
        part.replace(ledger)
        sync(ledger.parent)


def _drop_newer(file: Path, url: str) -> None:
    """Drop the tables that the copy does not know. `pg_restore --clean` leaves them, and the next migration would find them there."""
    listed = subprocess.run(  # noqa: S603 (our own arguments)
        [_client("pg_restore"), "--list", str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_SERVER_SECONDS,
    )
    if listed.returncode:
        raise OperatorError(f"{file} cannot be read: {listed.stderr.strip()[-800:]}", code="database")
    known = set(re.findall(r"^\d+; \d+ \d+ TABLE (?!DATA )\S+ (\S+) ", listed.stdout, flags=re.MULTILINE))
    try:
        engine = create_engine(url)
        with engine.begin() as connection:
            for name in set(inspect(connection).get_table_names()) - known:
                quoted = connection.dialect.identifier_preparer.quote_identifier(name)
                connection.execute(text(f"DROP TABLE {quoted} CASCADE"))
        engine.dispose()
    except (SQLAlchemyError, OSError) as error:
        raise _silent(make_url(url), error) from error


def _snapshot_file(ledger: Path, to: Path) -> str | None:
    with writing(to):
        to.touch(mode=0o600)
    try:
        with (
            closing(sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=rw", uri=True, timeout=10)) as source,
            closing(sqlite3.connect(to)) as target,
        ):
            source.backup(target)  # in one step: writers go on, and are not in it
            target.execute("PRAGMA journal_mode=DELETE")  # one file
            whole = [row[0] for row in target.execute("PRAGMA quick_check(1)")]
            if whole != ["ok"]:
                raise SetupError(
                    f"The ledger at {ledger} is corrupt: {whole[0]}", code="ledger_corrupt", fix="Keep older backups"
                )
            tables = {row[0] for row in target.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            rows = target.execute(ALEMBIC).fetchall() if "alembic_version" in tables else []
    except sqlite3.OperationalError as error:
        raise OperatorError(f"The ledger at {ledger} cannot be copied to {to}: {error}", code="unwritable") from error
    except sqlite3.DatabaseError as error:
        raise SetupError(
            f"The ledger at {ledger} is corrupt: {error}", code="ledger_corrupt", fix="Keep older backups"
        ) from error
    return rows[0][0] if rows else None


def _run(address: URL, program: str, *arguments: str) -> None:
    """A client program of PostgreSQL on this database; the password is in its environment, which no other user sees."""
    named = address.set(drivername="postgresql", password=None).render_as_string()
    environment = environment_without("GRADIENTS_", "BT_", "AWS_")
    if address.password:
        environment["PGPASSWORD"] = str(address.password)
    run = subprocess.run(  # noqa: S603 (our own arguments)
        [_client(program), "--no-password", f"--dbname={named}", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=_SERVER_SECONDS,
    )
    if run.returncode:
        raise OperatorError(
            f"{program} on {address.render_as_string()} failed: {run.stderr.strip()[-800:]}", code="database"
        )


def _client(program: str) -> str:
    if (found := shutil.which(program)) is None:
        raise SetupError(f"{program} is not installed", fix="apt-get install postgresql-client")
    return found


def _silent(address: URL, error: Exception) -> SetupError:
    reason = " ".join(str(getattr(error, "orig", None) or error).split())
    return SetupError(
        f"{address.render_as_string()} does not answer: {reason}", fix="Check ledger_url, and that the database is up"
    )
