"""`gradients upgrade`: another version in the place of this one, with a way back that was laid before."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from gradients.cli.backup import Role, daemon_here
from gradients.cli.doctor import AsJson
from gradients.cli.flags import FOLDER, Given, takes
from gradients.errors import GradientsError

From = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="SOURCE", help="Folder, wheel or git+ URL; by default what this was installed from."
    ),
]
To = Annotated[
    str | None,
    typer.Option("--to", help="Commit, tag or branch of a checkout; version of pip's index. By default the newest."),
]


@takes(FOLDER)
def upgrade(
    given: Given,
    *,
    role: Role = None,
    source: From = None,
    to: To = None,
    backups: Annotated[Path | None, typer.Option(help="Folder for the backup; beside the daemon's by default.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only show what would be installed; exit code 1 where that cannot be done.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Install another version for a daemon that is stopped: back up, install, migrate, and go back when its doctor finds something new.

    A checkout (pip install -e) fetches and moves to what its branch follows; a folder or repository that was installed by pip is installed
    again as it is now; a package of pip's index becomes the newest. In a container nothing is changed, and what to do instead is said.
    Name the same --config or --folder as for `run`.
    """
    from gradients.backup import packages, sources
    from gradients.backup.upgrading import Upgrade
    from gradients.clock import SystemClock
    from gradients.files.private import write_privately

    now = packages.installed()
    try:
        wanted = sources.chosen(source, to)
    except GradientsError as refusal:
        if check and as_json:
            why = {"installed": now, "can_upgrade": False, "code": refusal.code, "why_not": str(refusal)}
            typer.echo(json.dumps(why))
            raise typer.Exit(1) from refusal
        raise
    if check or wanted.is_here:
        told = {"installed": now, "can_upgrade": True, "would_install": None if wanted.is_here else wanted.said}
        there = "the newest" if wanted.is_here else f"there is {wanted.said}"
        typer.echo(json.dumps(told) if as_json else f"{now} is installed, {there}")
        return
    name, kept, config = daemon_here(given, role)
    was = f"{now} (commit {wanted.move.before[:10]})" if wanted.move else now
    if packages.in_container():
        typer.echo("This is a container: what is installed is gone when the container is made anew", err=True)
    if not yes and not as_json:
        typer.confirm(f"Install {wanted.said} in the place of {was} for the {name} in {kept.folder}?", abort=True)
    write_privately()
    stamp = time.strftime("%Y-%m-%dT%H%M%S")
    backup = (backups or kept.folder.parent / "backups").absolute() / f"{name}-{now}-before-upgrade-{stamp}"
    typer.echo(f"The way back will be in {backup}", err=True)
    installed = Upgrade(kept, config, wanted, was, backup).run(SystemClock())
    told = {"installed": installed, "was": was, "backup": str(backup)}
    done = f"{installed} is installed, {was} was; backup in {backup}. Start the {name} again"
    typer.echo(json.dumps(told) if as_json else done)
