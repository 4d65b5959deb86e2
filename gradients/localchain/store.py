"""Everything that survives the process: one SQLite file, one transaction per block.

A block is on disk before any client hears of it, so a killed process goes on exactly where its clients think it is. Waiting transactions
are not kept. The file belongs to one process at a time. Without a folder the same tables live in memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from gradients.errors import DiskFull, SetupError
from gradients.localchain.blocks import Block, Header
from gradients.localchain.state import KEPT_BLOCKS, Changes

FILE_NAME = "chain.sqlite"
FORMAT = b"1"
BUSY_SECONDS = 1.0  # for a chain that is just going
FULL_CODES = ("SQLITE_FULL", "SQLITE_IOERR_WRITE")

SCHEMA = """
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS block (
    number INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, parent BLOB NOT NULL, state_root BLOB NOT NULL, extrinsics_root BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS extrinsic (
    number INTEGER NOT NULL, position INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (number, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS undo (
    number INTEGER NOT NULL, key BLOB NOT NULL, value BLOB, PRIMARY KEY (number, key)
) WITHOUT ROWID;
"""


class Saved(NamedTuple):
    """A chain as it was left."""

    seed: bytes
    head: Header
    state: Changes
    undo: dict[int, Changes]  # of the kept blocks, oldest first


class Store:
    """The chain's file. Raises SetupError when it cannot be used and DiskFull when the disk is full."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        with self._explained("open"):
            self._database = sqlite3.connect(
                self._path(), timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None
            )
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(SCHEMA)

    def load(self) -> Saved | None:
        """What was saved; None when the folder is new. Raises SetupError for a file of another format."""
        facts = dict(self._database.execute("SELECT name, value FROM fact").fetchall())
        if not facts:
            return None
        if facts["format"] != FORMAT:
            raise SetupError(f"{self._path()} has another format", fix="Choose an empty folder with --data")
        (number,) = self._database.execute("SELECT max(number) FROM block").fetchone()
        head = self.header(number)
        assert head is not None  # noqa: S101 (the first block came with the facts)
        state = dict(self._database.execute("SELECT key, value FROM state").fetchall())
        # Every kept block has an entry, also one that changed nothing.
        kept = range(max(1, number - KEPT_BLOCKS + 1), number + 1)
        undo: dict[int, dict[bytes, bytes | None]] = {block: {} for block in kept}
        for block, key, value in self._database.execute("SELECT number, key, value FROM undo ORDER BY number"):
            undo[block][key] = value
        return Saved(facts["seed"], head, state, dict(undo))

    def begin(self, seed: bytes, genesis: Block) -> None:
        """Write a new chain's first block."""
        with self._transaction():
            facts = [("format", FORMAT), ("seed", seed)]
            self._database.executemany("INSERT INTO fact VALUES (?, ?)", facts)
            self._write(genesis)

    def append(self, block: Block, undo: Changes) -> None:
        """Write the next block, and forget the way back to the oldest one."""
        number = block.header.number
        with self._transaction():
            self._write(block)
            lines = [(number, key, value) for key, value in undo.items()]
            self._database.executemany("INSERT INTO undo VALUES (?, ?, ?)", lines)
            self._database.execute("DELETE FROM undo WHERE number <= ?", (number - KEPT_BLOCKS,))

    def header(self, number: int) -> Header | None:
        """A block's header, by its number."""
        row = self._database.execute(
            "SELECT number, parent, state_root, extrinsics_root FROM block WHERE number = ?", (number,)
        ).fetchone()
        return Header(*row) if row else None

    def number(self, block_hash: bytes) -> int | None:
        """A block's number, by its hash."""
        row = self._database.execute("SELECT number FROM block WHERE hash = ?", (block_hash,)).fetchone()
        return int(row[0]) if row else None

    def extrinsics(self, number: int) -> list[bytes]:
        """A block's transactions in order."""
        rows = self._database.execute("SELECT data FROM extrinsic WHERE number = ? ORDER BY position", (number,))
        return [data for (data,) in rows]

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def _write(self, block: Block) -> None:
        header = block.header
        row = (header.number, header.hash, header.parent_hash, header.state_root, header.extrinsics_root)
        self._database.execute("INSERT INTO block VALUES (?, ?, ?, ?, ?)", row)
        bodies = [(header.number, position, data) for position, data in enumerate(block.extrinsics)]
        self._database.executemany("INSERT INTO extrinsic VALUES (?, ?, ?)", bodies)
        gone = [(key,) for key, value in block.changes.items() if value is None]
        self._database.executemany("DELETE FROM state WHERE key = ?", gone)
        written = [(key, value) for key, value in block.changes.items() if value is not None]
        self._database.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", written)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._explained("write to"):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname in FULL_CODES:
                raise DiskFull(f"Could not {doing} {self._path()}", fix="Make room and start again") from error
            if error.sqlite_errorname == "SQLITE_BUSY":
                raise SetupError(
                    f"Another chain runs on {self._path()}", fix="Stop it or choose another --data"
                ) from error
            raise SetupError(f"Could not {doing} {self._path()}: {error}") from error

    def _path(self) -> str:
        return ":memory:" if self._folder is None else str(self._folder / FILE_NAME)
