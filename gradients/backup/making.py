"""Making a backup, of a daemon that may be at work: the database as it is at one moment, then the files that it names."""

from __future__ import annotations

import stat
from pathlib import Path

from gradients import __version__
from gradients.backup import databases, manifest
from gradients.backup.copying import NEVER, Copier, files_below, matches
from gradients.backup.kept import Kept
from gradients.backup.manifest import DATABASE, FOLDER, FORMAT, SETTINGS, File, Manifest
from gradients.clock import Clock
from gradients.errors import SetupError
from gradients.files.digest import file_sha256
from gradients.files.disk import check_room
from gradients.files.whole import whole_folder


def make(kept: Kept, to: Path, clock: Clock, *, settings: Path | None = None, whole: bool = True) -> Manifest:
    """Put a backup at `to`, as a whole or not at all. The database is read first, so that all files it names are there or newer.

    Args:
        settings: the daemon's settings file.
        whole: or only records: the database, secrets and journals, without rows, models and uploads.

    Raises SetupError when there is nothing to keep or something at `to`, and DiskFull.
    """
    if not kept.was_here:
        raise SetupError(f"No {kept.role} has worked in {kept.folder}", fix="Name its --folder or --config")
    to = to.absolute()
    if to.exists() and not (to.is_dir() and not any(to.iterdir())):
        raise SetupError(f"{to} is not an empty folder", fix="Name a folder that does not exist yet")
    if to.is_relative_to(kept.folder):
        raise SetupError(f"{to} lies in what is to be kept", fix="Name a folder on another disk")
    paths = files_below(kept.folder, records=kept.records, leave_out=_left_out(kept))
    paths = [path for path in paths if whole or matches(path, kept.records)]
    there = next(parent for parent in to.parents if parent.exists())
    check_room(there, _bytes(kept, paths))
    with whole_folder(to) as part:
        part.chmod(0o700)
        schema = databases.snapshot(kept.database, part / DATABASE) if kept.database else None
        files = [_own(part / DATABASE)] if kept.database else []
        copier, vanished = Copier(part), []
        for path in paths:
            try:
                files.append(copier.copy(kept.folder / path, f"{FOLDER}/{path.as_posix()}"))
            except FileNotFoundError:
                vanished.append(path.as_posix())
        place = None
        if settings is not None:
            place = _settings_place(kept, settings, files)
            if place == SETTINGS:
                files.append(copier.copy(settings, place))
        made = Manifest(
            format=FORMAT,
            role=kept.role,
            version=__version__,
            made_at=clock.now(),
            folder=str(kept.folder),
            is_whole=whole,
            database=databases.backend(kept.database) if kept.database else None,
            database_schema=schema,
            settings=place,
            files=tuple(files),
            vanished=tuple(vanished),
        )
        manifest.write(made, part)
    return made


def _left_out(kept: Kept) -> tuple[str, ...]:
    """What is not copied as a file: scratch space, and a database that lies in the folder."""
    if kept.database is None or databases.backend(kept.database) != "sqlite":
        return (*kept.scratch, *NEVER)
    file = Path(kept.database.partition(":///")[2]).absolute()
    inside = (file.relative_to(kept.folder).as_posix(),) if file.is_relative_to(kept.folder) else ()
    return (*kept.scratch, *NEVER, *inside)


def _settings_place(kept: Kept, settings: Path, files: list[File]) -> str:
    """Where the settings file stands in the backup: in its folder, or by itself."""
    settings = settings.absolute()
    inside = f"{FOLDER}/{settings.relative_to(kept.folder).as_posix()}" if settings.is_relative_to(kept.folder) else ""
    return inside if inside in {file.path for file in files} else SETTINGS


def _own(file: Path) -> File:
    return File(
        path=file.name,
        size=file.stat().st_size,
        sha256=file_sha256(file),
        mode=stat.S_IMODE(file.stat().st_mode) & 0o700,
    )


def _bytes(kept: Kept, paths: list[Path]) -> int:
    """How much the files come to, each counted once."""
    sizes = {}
    for path in paths:
        try:
            about = (kept.folder / path).stat()
        except FileNotFoundError:
            continue
        sizes[about.st_dev, about.st_ino] = about.st_size
    database = (
        Path(kept.database.partition(":///")[2]) if kept.database and kept.database.startswith("sqlite") else None
    )
    return sum(sizes.values()) + (database.stat().st_size if database and database.is_file() else 0)
