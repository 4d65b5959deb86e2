"""`gradients doctor`: what this machine has, what it lacks, and what to do about it; how every doctor's findings are shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from pydantic_settings import SettingsConfigDict

from gradients.cli.flags import SUBNET, Given, takes
from gradients.config import DaemonSettings
from gradients.doctor.findings import Finding, mended

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Fix = Annotated[
    bool,
    typer.Option(
        "--fix",
        help="Mend what loses and costs nothing: a missing folder, rights that are too wide, an older ledger (backed up "
        "first), files that nobody needs on a short disk. Says what it did and what is left to you.",
    ),
]
_NAME_WIDTH = 12
_MARKS = {"ok": "ok     ", "note": "note   ", "missing": "MISSING"}


class AnySettings(DaemonSettings):
    """What both daemons have, out of either one's file."""

    model_config = SettingsConfigDict(extra="ignore")


@takes(SUBNET)
def doctor(given: Given, *, as_json: AsJson = False) -> None:
    """Check Python, packages, GPU, memory, disk, sandbox, wallet and chain. The exit code is 1 when something is missing.

    For what a daemon needs beside that: `gradients validator doctor` and `gradients miner doctor`.
    """
    from gradients.doctor import machine, storage, subnet
    from gradients.doctor.examination import chain, heard, wallet
    from gradients.doctor.findings import take
    from gradients.doctor.software import software

    settings = given.load(AnySettings)
    with heard(settings.chain, ()) as silence:

        def identity() -> list[Finding]:
            findings = wallet(settings.wallet)[1]
            seen = chain(settings.chain, silence)
            return [*findings, seen if isinstance(seen, Finding) else subnet.shown(seen, settings.chain)]

        looks = (
            software,
            machine.memory,
            machine.gpu,
            lambda: machine.sandbox(needed=()),
            lambda: storage.folder(settings.folder, name="disk", flag="--folder"),
            identity,
        )
        show(take(looks), as_json=as_json)


def examined(look: Callable[[], Sequence[Finding]], *, fix: bool, as_json: bool) -> None:
    """Show what `look` finds; with `fix`, what it finds once everything that can be mended was. Exits with 1 when something is missing."""
    findings = list(look())
    if fix and (done := mended(findings)):
        findings = [*done, *look()]
    if fix:
        left = ", ".join(found.name for found in findings if found.level != "ok")
        typer.echo(f"left to you: {left}" if left else "nothing is left to you", err=True)
    show(findings, as_json=as_json)


def show(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Print findings, and exit with 1 when something is missing."""
    if as_json:
        typer.echo(json.dumps([finding.as_json() for finding in findings]))
    else:
        width = max(_NAME_WIDTH, *(len(finding.name) for finding in findings))
        for finding in findings:
            advice = f"  -> {finding.advice}" if finding.advice else ""
            typer.echo(f"{_MARKS[finding.level]} {finding.name:<{width}} {finding.found}{advice}")
    if any(finding.level == "missing" for finding in findings):
        raise typer.Exit(1)
