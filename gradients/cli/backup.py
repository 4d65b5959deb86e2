"""`gradients backup`, `gradients restore`: a daemon's folder and ledger as one folder elsewhere, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradients.cli.doctor import AsJson
from gradients.cli.flags import FOLDER, Given, settings_of, takes
from gradients.cli.roles import SETTINGS, kept_of_role, settings_of_role
from gradients.errors import SetupError

if TYPE_CHECKING:
    from gradients.backup.kept import Kept
    from gradients.backup.manifest import Manifest

Role = Annotated[str | None, typer.Option("--role", help="validator or miner, where the folder does not tell.")]
OWN_SETTINGS = "settings.toml"  # where `gradients init` puts it, in the folder


@takes(FOLDER)
def backup(
    given: Given,
    to: Annotated[Path, typer.Argument(metavar="DEST", help="Folder to make; it must not exist, or be empty.")],
    *,
    role: Role = None,
    records_only: Annotated[
        bool, typer.Option("--records-only", help="Only ledger, journals, settings and secrets: no rows, no models.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy what a validator or a miner keeps, with a digest of every file. The daemon may be at work.

    The ledger is copied as it is at one moment, then the files that it names. Wallets are not in it. Name the same --config or --folder as
    for `run`. The copy holds secrets: only its owner can read it.
    """
    from gradients.backup.making import make
    from gradients.clock import SystemClock
    from gradients.files.private import write_privately

    write_privately()
    _, kept, settings = daemon_here(given, role)
    made = make(kept, to, SystemClock(), settings=settings, whole=not records_only)
    _tell(made, f"{to} holds what the {made.role} in {kept.folder} keeps", as_json=as_json)


@takes(FOLDER)
def restore(
    given: Given,
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder that `gradients backup` made.")],
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Only check every file of the backup against its digest.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a daemon's folder and ledger again from a backup, where there is nothing yet.

    Every digest is checked first. Without --config the settings file in the backup says where things go.
    """
    from gradients.backup import manifest, restoring
    from gradients.files.private import write_privately

    write_privately()
    if check:
        listed = restoring.check(source)
        _tell(listed, f"{source} is whole: the backup of a {listed.role}", as_json=as_json)
        return
    listed = manifest.read(source)
    if listed.role not in SETTINGS:
        raise SetupError(
            f"{source} is of a {listed.role}, which this version does not know", fix="Install a newer version"
        )
    own = source / listed.settings if listed.settings else None
    flags = dict(given.flags)
    if given.config is None and own is None and flags["folder"] is None:
        flags["folder"] = Path(listed.folder)
    kept = kept_of_role(listed.role, Given(given.config or own, flags).load(settings_of_role(listed.role)))
    restoring.restore(source, kept)
    _tell(listed, f"{kept.folder} is what {source} holds; the {listed.role} can be started", as_json=as_json)
    if str(kept.folder) != listed.folder and not as_json:
        typer.echo(f"It was in {listed.folder}: uploads that unfinished tasks name are looked for there", err=True)


def daemon_here(given: Given, role: str | None) -> tuple[str, Kept, Path | None]:
    """The daemon that is meant: its role, what it keeps, its settings file. Raises SetupError when that is none, or either."""
    if role is not None and role not in SETTINGS:
        raise SetupError(f"There is no role '{role}'", fix=f"Name {' or '.join(SETTINGS)}")
    found: list[tuple[str, Kept, Path | None]] = []
    refused: list[SetupError] = []
    for each in (role,) if role else SETTINGS:
        try:
            kept, file = _kept(given, each)
        except SetupError as error:
            refused.append(error)
            continue
        if kept.was_here:
            found.append((each, kept, file))
    if len(found) == 1:
        return found[0]
    if found:
        places = " and ".join(f"a {each} in {kept.folder}" for each, kept, _ in found)
        raise SetupError(f"There is {places}", fix="Say which: --role, --folder or --config")
    if refused and (role or len(refused) == len(SETTINGS)):
        raise refused[0]
    raise SetupError("No daemon has worked in the folder that is named", fix="Name --folder or --config as for `run`")


def _kept(given: Given, role: str) -> tuple[Kept, Path | None]:
    """What the daemon keeps by the settings that are named, or else by those that lie in its folder."""
    kind = settings_of_role(role)
    settings = given.load(kind)
    own = settings.folder / OWN_SETTINGS
    if given.config is not None or not own.is_file():
        return kept_of_role(role, settings), given.config
    read = kind.load(own, settings_of(**{**given.flags, "folder": settings.folder}))
    return kept_of_role(role, read), own


def _tell(listed: Manifest, what: str, *, as_json: bool) -> None:
    size = sum(file.size for file in listed.files)
    if as_json:
        keep = ("role", "version", "made_at", "folder", "is_whole", "database", "database_schema")
        about = listed.model_dump(include=set(keep))
        typer.echo(json.dumps(about | {"files": len(listed.files), "bytes": size, "vanished": list(listed.vanished)}))
        return
    rows = "" if listed.is_whole else ", records only: no rows, models or uploads"
    typer.echo(f"{what}: {len(listed.files):,} files, {size:,} bytes{rows}")
    if listed.vanished:
        typer.echo(f"{len(listed.vanished)} files went while they were copied: the daemon needs them no more", err=True)
