"""Opening the ledger: SQLite in WAL mode by default, PostgreSQL by URL, brought to the newest migration."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError

from gradients.errors import DiskFull, OperatorError, SetupError
from gradients.extras import how_to_install
from gradients.files.private import make_private
from validator.ledger.examination import MIGRATIONS, RESTORE, refuse_corrupt, refuse_older, refuse_unknown

BUSY_TIMEOUT_MS = 10_000
FULL_CODES = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "53100")  # the last one is PostgreSQL's

CORRUPT_CODES = ("SQLITE_NOTADB", "SQLITE_CORRUPT")


def open_engine(url: str, *, migrate: bool = True) -> Engine:
    """An engine on a ledger that has the newest schema. Raises SetupError when the database cannot be opened, is corrupt or newer.

    Args:
        migrate: bring an older one to this version's schema, from which there is no way back; otherwise that raises SetupError too.
    """
    try:
        if (file := make_url(url).database) and url.startswith("sqlite"):
            Path(file).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if file != ":memory:":
                Path(file).touch(mode=0o600)  # holds every task's salt; what SQLite lays beside it takes its mode
                for beside in ("", "-wal", "-shm"):
                    make_private(Path(file + beside))
        engine = create_engine(url)
        if engine.dialect.name == "sqlite":
            _harden_sqlite(engine)
        migrations = Config()
        migrations.set_main_option("script_location", str(MIGRATIONS))
        with engine.begin() as connection:
            revision = MigrationContext.configure(connection).get_current_revision()
            refuse_unknown(revision, _without_password(url))
            if not migrate:
                refuse_older(revision, _without_password(url))
            migrations.attributes["connection"] = connection
            command.upgrade(migrations, "head")
        _name_failures(engine)
    except ModuleNotFoundError as error:
        raise SetupError(
            f"The ledger at {_without_password(url)} needs the Python module {error.name}",
            fix=f"For PostgreSQL install the extra 'postgres': {how_to_install('postgres')}",
        ) from error
    except (ArgumentError, OperationalError, OSError) as error:
        reason = error.orig if isinstance(error, OperationalError) else error
        raise SetupError(
            f"The ledger at {_without_password(url)} cannot be opened: {reason}",
            fix="Check ledger_url, its folder, and the room on its disk",
        ) from error
    except DatabaseError as error:
        if not _is_corrupt(error.orig):
            raise
        raise refuse_corrupt(error.orig or error, _without_password(url)) from error
    return engine


def _is_corrupt(error: BaseException | None) -> bool:
    """Whether SQLite could not make sense of the file's bytes."""
    return getattr(error, "sqlite_errorname", "").startswith(CORRUPT_CODES)


def _without_password(url: str) -> str:
    """The URL as it may be shown."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "ledger_url"


def _harden_sqlite(engine: Engine) -> None:
    """Durable, many readers, writers that wait for one another and take the write lock at BEGIN.

    Source: SQLAlchemy's recipe for transactions under pysqlite; the driver must not begin transactions by itself.
    """

    @event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_TIMEOUT_MS}", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _name_failures(engine: Engine) -> None:
    """From now on the database's own failures come as ours: callers see no SQLAlchemy."""

    @event.listens_for(engine, "handle_error")
    def _on_error(context: ExceptionContext) -> None:
        error = context.original_exception
        if _is_corrupt(error):
            raise OperatorError(
                f"The ledger is corrupt: {error}", code="ledger_corrupt", fix=RESTORE.capitalize()
            ) from error
        if isinstance(context.sqlalchemy_exception, OperationalError):
            code = getattr(error, "sqlite_errorname", None) or getattr(error, "sqlstate", None)
            if code in FULL_CODES:
                raise DiskFull(f"The ledger has no room left: {error}", fix="Make room on its disk") from error
            raise OperatorError(f"The ledger does not answer: {error}", code="ledger_unavailable") from error
