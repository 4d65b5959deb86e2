"""Looking at a ledger without opening it for work: whether it is one, whole, of a schema that is known here, and free to be written.

Nothing is made or changed: no file, no migration. Does not cover: what its rows say.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from gradients.errors import SetupError
from gradients.extras import how_to_install

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK_SECONDS = 1.0  # a running validator holds the write lock for milliseconds
CHECK_SECONDS = 1.0  # of a ledger that is large, the rest is not read
_OPCODES = 10_000  # of SQLite, between two looks at the time
RESTORE = "move it and what lies beside it (-wal, -shm) away, and put a copy that is whole in its place"


class Examined(NamedTuple):
    """What a ledger is that can be worked on."""

    said: str  # for people
    is_behind: bool = False  # of a schema that the next start migrates


def examine(url: str) -> Examined:
    """What the ledger is. Raises SetupError, with what to do, when a validator could not work on it."""
    try:
        address = make_url(url)
    except ArgumentError as error:
        raise SetupError("ledger_url is not a URL of SQLAlchemy", fix="See configs/validator.toml") from error
    if address.get_backend_name() != "sqlite":
        return _examine_server(url, address.render_as_string(hide_password=True))
    file = Path(address.database or "")
    if not file.exists():
        return Examined(f"none at {file} yet; the first start makes it")
    return _examine_file(file)


def refuse_unknown(revision: str | None, shown: str) -> str:
    """What the ledger's schema is to this version. Raises SetupError when it is newer, or nobody's."""
    known = [script.revision for script in ScriptDirectory.from_config(_migrations()).walk_revisions()]
    if revision is None or revision == known[0]:
        return "of this version's schema" if revision else "without tables yet"
    if revision not in known:
        raise SetupError(
            f"The ledger at {shown} has the schema {revision}, and this version knows those up to {known[0]}",
            code="ledger_newer",
            fix="Install the version that wrote it, or a newer one; or put a copy from before the upgrade in its place",
        )
    return f"of the schema {revision}, which the next start brings to {known[0]}"


def refuse_older(revision: str | None, shown: str) -> None:
    """Raises SetupError for a schema that would have to be migrated; one without tables has nothing to lose."""
    if _is_behind(revision):
        raise SetupError(
            f"The ledger at {shown} has the schema {revision}, which this version has to migrate first",
            code="ledger_older",
            fix="`gradients backup`, then `gradients validator migrate`: there is no way back but that copy; or "
            "`gradients validator doctor --fix`, which does both",
        )


def _is_behind(revision: str | None) -> bool:
    return revision is not None and revision != ScriptDirectory.from_config(_migrations()).get_current_head()


def refuse_corrupt(error: BaseException, shown: str) -> SetupError:
    """What to raise when the bytes of a ledger are not one."""
    return SetupError(f"The ledger at {shown} is corrupt: {error}", code="ledger_corrupt", fix=RESTORE.capitalize())


def _examine_file(file: Path) -> Examined:
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=LOCK_SECONDS)) as ledger:
        try:
            ledger.isolation_level = None
            with _for_a_while(ledger):
                whole = [row[0] for row in ledger.execute("PRAGMA quick_check(1)")]
            tables = {row[0] for row in ledger.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            rows = ledger.execute("SELECT version_num FROM alembic_version").fetchall() if tables else []
            ledger.execute("BEGIN IMMEDIATE")
            ledger.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            raise _unusable(error, file) from error
        except sqlite3.DatabaseError as error:
            raise refuse_corrupt(error, str(file)) from error
    if whole not in ([], ["ok"]):
        raise refuse_corrupt(ValueError(" ".join(whole[0].split())), str(file))
    revision = rows[0][0] if rows else None
    said = f"{file}, {file.stat().st_size / 1024**2:,.0f} MiB, {refuse_unknown(revision, str(file))}"
    return Examined(said, _is_behind(revision))


def _unusable(error: sqlite3.OperationalError, file: Path) -> SetupError:
    """Why a file that is a database cannot be worked on."""
    if error.sqlite_errorname.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return SetupError(
            f"The ledger at {file} is locked by another program: {error}",
            code="ledger_locked",
            fix=f"End what holds it (`fuser {file}` names it), a backup or a shell of sqlite3 for example",
        )
    return SetupError(
        f"The ledger at {file} cannot be used: {error}",
        fix="Check that this user may write to it and its folder, and that its disk has room",
    )


@contextmanager
def _for_a_while(ledger: sqlite3.Connection) -> Iterator[None]:
    """Statements of the body are ended, without a failure, when they take too long."""
    until = time.monotonic() + CHECK_SECONDS
    late = False

    def look() -> bool:
        nonlocal late
        late = time.monotonic() > until
        return late

    ledger.set_progress_handler(look, _OPCODES)
    try:
        yield
    except sqlite3.OperationalError:
        if not late:
            raise
    finally:
        ledger.set_progress_handler(None, 0)


def _examine_server(url: str, shown: str) -> Examined:
    """PostgreSQL, or another server by its URL."""
    try:
        engine = create_engine(url, connect_args={"connect_timeout": 2})
        with engine.connect() as connection:
            has_one = engine.dialect.has_table(connection, "alembic_version")
            revision = connection.scalar(text("SELECT version_num FROM alembic_version")) if has_one else None
        engine.dispose()
    except ModuleNotFoundError as error:
        fix = f"For PostgreSQL install the extra 'postgres': {how_to_install('postgres')}"
        raise SetupError(f"The ledger at {shown} needs the Python module {error.name}", fix=fix) from error
    except (SQLAlchemyError, OSError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        fix = "Check ledger_url, that the database is up, and that its user may use it"
        raise SetupError(f"The ledger at {shown} does not answer: {reason}", fix=fix) from error
    return Examined(f"{shown}, {refuse_unknown(revision, shown)}", _is_behind(revision))


def _migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config
