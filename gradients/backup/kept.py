"""What a daemon keeps, as backups need to know it. Each role says it of itself: validator/kept.py, miner/kept.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Kept:
    """A daemon's folder and database."""

    role: str  # validator or miner
    folder: Path
    records: tuple[
        str, ...
    ]  # patterns below the folder: secrets, and small files that name others and are copied before them
    scratch: tuple[str, ...]  # patterns of what the next start makes anew
    database: str | None  # SQLAlchemy URL
    was_here: bool  # whether such a daemon has worked in the folder
    refuse_unknown: Callable[
        [str | None], object
    ]  # raises SetupError for a database's schema that this version doesn't know
    check: Callable[[Path], object]  # raises SetupError for a restored folder that this version cannot work in
