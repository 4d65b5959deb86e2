"""`gradients upgrade`: another version in the place of this one, with a way back that was laid before."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradients.cli.backup import Role, daemon_here
from gradients.cli.doctor import AsJson
from gradients.cli.flags import FOLDER, Given, takes
from gradients.errors import GradientsError, OperatorError, SetupError

if TYPE_CHECKING:
    from gradients.backup.kept import Kept

PACKAGES = "packages.txt"
_STEP_SECONDS = 600.0  # of the new version, for a migration or a doctor


@takes(FOLDER)
def upgrade(
    given: Given,
    *,
    role: Role = None,
    to: Annotated[str | None, typer.Option("--to", help="Version to install; the newest by default.")] = None,
    backups: Annotated[Path | None, typer.Option(help="Folder for the backup; beside the daemon's by default.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only show which versions there are.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Install another version for a daemon that is stopped: back up, install, migrate, and go back when its doctor finds something new.

    Name the same --config or --folder as for `run`. In a container or a checkout, or where it came from no index, nothing is changed, and
    what to do instead is said.
    """
    from gradients.backup import (
        databases,
        packages,
    )  # all that the way back needs, before other files are in their place

    now, refusal = packages.installed(), packages.why_not()
    if refusal is not None and not check:
        raise refusal
    versions = [] if refusal else packages.available()
    wanted = to or next(iter(versions), now)
    if check or wanted == now:
        told = {
            "installed": now,
            "newest": next(iter(versions), None),
            "can_upgrade": refusal is None,
            "why_not": refusal and str(refusal),
        }
        typer.echo(json.dumps(told) if as_json else f"installed {now}, newest {next(iter(versions), 'not asked for')}")
        if refusal is not None and not as_json:
            typer.echo(str(refusal), err=True)
        return
    if wanted not in versions:
        raise SetupError(f"pip's index has no version {wanted}", fix=f"Name one of {', '.join(versions[:8])}")
    name, kept, config = daemon_here(given, role)
    if packages.in_container():
        typer.echo("This is a container: what is installed is gone when the container is made anew", err=True)
    if not yes and not as_json:
        typer.confirm(f"Install {wanted} in the place of {now} for the {name} in {kept.folder}?", abort=True)
    named = ["--folder", str(kept.folder), *(["--config", str(config)] if config else [])]
    backup = _back_up(kept, config, (backups or kept.folder.parent / "backups"), now, wanted)
    before = _missing(name, named)
    try:
        packages.install(wanted)
        if name == "validator":
            _run(name, "migrate", *named)
        if worse := sorted(_missing(name, named) - before):
            raise OperatorError(f"The doctor of {wanted} misses what was there before: {', '.join(worse)}", code="gate")
    except (GradientsError, subprocess.SubprocessError) as error:
        packages.put_back(backup / PACKAGES)
        if kept.database:
            databases.put_back(backup / "database", kept.database)
        raise OperatorError(
            f"{now} is in its place again, and the ledger as it was: {error}",
            code="rolled_back",
            fix=f"The backup is {backup}",
        ) from error
    told = {"installed": wanted, "was": now, "backup": str(backup)}
    typer.echo(
        json.dumps(told) if as_json else f"{wanted} is installed, {now} was; backup in {backup}. Start the {name} again"
    )


def _back_up(kept: Kept, config: Path | None, backups: Path, now: str, wanted: str) -> Path:
    """The way back: ledger or journal, settings and secrets, and every package's version. Raises SetupError while the daemon runs.

    Everything that going back needs is imported here: afterwards other files are in the modules' places.
    """
    from gradients.backup import databases, packages  # noqa: F401 (databases is for `_gone_back`)
    from gradients.backup.making import make
    from gradients.clock import SystemClock
    from gradients.files.locks import only_one
    from gradients.files.private import write_privately
    from gradients.files.whole import write_text

    write_privately()
    place = backups / f"{kept.role}-{now}-before-{wanted}-{time.strftime('%Y-%m-%dT%H%M%S')}"
    with only_one(kept.folder, what=kept.role):
        make(kept, place, SystemClock(), settings=config, whole=False)
    write_text(place / PACKAGES, packages.frozen(), mode=0o600)
    return place


def _gone_back(kept: Kept, backup: Path, now: str, why: Exception) -> OperatorError:
    """What to raise once everything is as it was, or as far as it could be."""
    from gradients.backup import databases, packages
    from gradients.backup.manifest import DATABASE

    failures = []
    try:
        packages.put_back(backup / PACKAGES)
    except GradientsError as error:
        failures.append(f"pip install --no-deps -r {backup / PACKAGES} ({error.message})")
    if kept.database is not None:
        try:
            databases.put_back(backup / DATABASE, kept.database)
        except (GradientsError, OSError) as error:
            failures.append(f"put {backup / DATABASE} into the ledger's place ({error})")
    if failures:
        undone = f"The upgrade failed, and going back did too: {why}"
        return OperatorError(undone, code="half_back", fix=f"By hand: {'; '.join(failures)}")
    return OperatorError(
        f"{now} is in its place again, and the ledger as it was: {why}",
        code="rolled_back",
        fix=f"The backup is {backup}",
    )


def _missing(role: str, named: Sequence[str]) -> set[str]:
    """What the installed version's doctor says is missing, by name: words hold numbers that change."""
    run = _run(role, "doctor", "--json", *named, may_fail=True)
    try:
        findings = json.loads(run.stdout)
        return {str(each["name"]) for each in findings if each["level"] == "missing"}
    except (ValueError, TypeError, KeyError) as error:
        raise OperatorError(f"Its doctor could not look: {run.stderr[-400:].strip()}", code="gate") from error


def _run(role: str, *arguments: str, may_fail: bool = False) -> subprocess.CompletedProcess[str]:
    """A command of the version that is installed now, in a process of its own."""
    command = [sys.executable, "-m", "gradients.cli", role, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_STEP_SECONDS)  # noqa: S603 (our own)
    if run.returncode and not may_fail:
        raise OperatorError(f"`gradients {role} {arguments[0]}` failed: {run.stderr[-400:].strip()}", code="gate")
    return run
