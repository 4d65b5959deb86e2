"""Looking at a backup, and making a daemon's folder and database of it again."""

from __future__ import annotations

from pathlib import Path

from gradients.backup import databases, manifest
from gradients.backup.copying import Copier
from gradients.backup.kept import Kept
from gradients.backup.manifest import DATABASE, FOLDER, Manifest
from gradients.errors import OperatorError, SetupError
from gradients.files.digest import file_sha256
from gradients.files.disk import check_room
from gradients.files.whole import whole_folder


def check(backup: Path) -> Manifest:
    """The manifest of a backup in which every file is what it was. Raises SetupError that names the first that isn't."""
    listed = manifest.read(backup)
    for file in listed.files:
        place = backup / file.path
        if not place.is_file() or place.is_symlink():
            raise _damaged(backup, f"{file.path} is missing")
        if place.stat().st_size != file.size or file_sha256(place) != file.sha256:
            raise _damaged(backup, f"{file.path} is not what it was when the backup was made")
    if listed.database and DATABASE not in {file.path for file in listed.files}:
        raise _damaged(backup, "it lists no database")
    return listed


def restore(backup: Path, kept: Kept) -> Manifest:
    """Make the folder and the database of `kept` what the backup says, after checking all of it; files are checked again on the way.

    Raises SetupError, and leaves everything as it is, when the backup is damaged, of a later version, of another role, or when there is
    something in the folder or the database.
    """
    listed = manifest.read(backup)
    if listed.role != kept.role:
        raise SetupError(
            f"{backup} is of a {listed.role}, not of a {kept.role}", fix=f"Name the settings of a {listed.role}"
        )
    folder = kept.folder
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise SetupError(f"{folder} is not an empty folder", fix="Move it away, or name another one: --folder")
    if listed.database:
        _check_database(listed, kept)
    check(backup)
    there = next(parent for parent in folder.absolute().parents if parent.exists())
    check_room(there, sum(file.size for file in listed.files))
    with whole_folder(folder) as part:
        part.chmod(0o700)
        copier = Copier(part)
        for file in (file for file in listed.files if file.path.startswith(f"{FOLDER}/")):
            path = file.path.removeprefix(f"{FOLDER}/")
            if copier.copy(backup / file.path, path).sha256 != file.sha256:
                raise OperatorError(
                    f"{file.path} changed while it was read", code="file_changed", fix="Look at the disk"
                )
            (part / path).chmod(file.mode)
        kept.check(part)
        if kept.database and listed.database:
            databases.put(backup / DATABASE, _moved(kept.database, folder, part))
    return listed


def _check_database(listed: Manifest, kept: Kept) -> None:
    kept.refuse_unknown(listed.database_schema)
    if kept.database is None or databases.backend(kept.database) != listed.database:
        raise SetupError(
            f"The backup holds a database of {listed.database}, and the settings name another kind",
            fix="Name a ledger_url of the same kind, in --config",
        )
    if databases.is_there(kept.database):
        raise SetupError(
            "There is something in the ledger already", fix="Move it away, or name an empty one: ledger_url in --config"
        )


def _moved(url: str, folder: Path, part: Path) -> str:
    """The URL of a database in the folder while that is still under its temporary name."""
    scheme, found, file = url.partition(":///")
    inside = found and scheme.startswith("sqlite") and Path(file).is_relative_to(folder)
    return f"{scheme}:///{part / Path(file).relative_to(folder)}" if inside else url


def _damaged(backup: Path, what: str) -> SetupError:
    return SetupError(f"The backup {backup} is damaged: {what}", code="backup_damaged", fix="Take another backup")
