"""What a validator needs of its machine and its subnet, beside what both daemons do: its ledger, and the customers' port."""

from __future__ import annotations

import time
from collections.abc import Iterator

from gradients import __version__
from gradients.bases.bases import DEFAULT_CACHE
from gradients.clock import Clock
from gradients.doctor.axon import port
from gradients.doctor.examination import Daemon, examine
from gradients.doctor.findings import Finding
from gradients.doctor.storage import is_short
from gradients.errors import GradientsError
from gradients.files.locks import only_one
from gradients.scoring.rules import VERSIONS
from validator.folders import Folders
from validator.settings import ValidatorSettings


def examine_validator(settings: ValidatorSettings, clock: Clock) -> list[Finding]:
    """Every finding on a validator with these settings."""
    daemon = Daemon(
        "validator",
        settings,
        caches=settings.caches or DEFAULT_CACHE.expanduser(),
        sandboxed=settings.sandbox == "on",
        version_key=max(VERSIONS),
    )

    def api() -> Iterator[Finding]:
        yield port("api", settings.api.host, settings.api.port, flag="--api-port", at_work=daemon.at_work)

    looks = (
        lambda: (ledger(settings, clock, at_work=daemon.at_work),),
        lambda: sweep(settings, clock) if not daemon.at_work and is_short(settings.folder) else (),
        api,
    )
    return examine(daemon, looks, clock, libraries=("validator.ledger.examination",))


def ledger(settings: ValidatorSettings, clock: Clock, *, at_work: bool) -> Finding:
    """Whether there is one that can be worked on; none is made."""
    from validator.ledger.examination import examine as examine_ledger  # half a second, for which `heard` leaves time

    try:
        examined = examine_ledger(settings.resolved_ledger_url())
    except GradientsError as error:
        return Finding("ledger", "missing", error.message, error.fix or "")
    if examined.is_behind and not at_work:
        advice = "`gradients backup` first: there is no way back but one; or --fix, which does both"
        return Finding("ledger", "note", examined.said, advice, lambda: _migrate(settings, clock))
    return Finding("ledger", "ok", examined.said)


def sweep(settings: ValidatorSettings, clock: Clock) -> Iterator[Finding]:
    """For a short disk: that what the ledger no longer needs may go, though nobody runs who would drop it."""
    if Folders(settings.folder).api_key.is_file():
        found = "a validator that does not run drops nothing of what [keep] lets go"
        yield Finding("sweep", "note", found, "gradients validator prune, or --fix", lambda: _prune(settings, clock))


def _migrate(settings: ValidatorSettings, clock: Clock) -> str:
    """Back up the records, then bring the ledger to this version's schema. Raises SetupError when somebody works on it meanwhile."""
    from gradients.backup.making import make
    from validator.kept import kept
    from validator.ledger.store import open_engine

    stamp = time.strftime("%Y-%m-%dT%H%M%S", time.localtime(clock.now()))
    place = settings.folder.parent / "backups" / f"validator-{__version__}-before-migration-{stamp}"
    with only_one(settings.folder, what="validator"):
        make(kept(settings), place, clock, whole=False)
        open_engine(settings.resolved_ledger_url()).dispose()
    return f"it has this version's schema; {place} holds it as it was"


def _prune(settings: ValidatorSettings, clock: Clock) -> str:
    """Drop what a running validator would. Raises SetupError when one has begun to run, and for a ledger that was not migrated."""
    from validator.ledger import Ledger
    from validator.pruning import Pruner

    with only_one(settings.folder, what="validator"):
        opened = Ledger.open(settings.resolved_ledger_url(), clock, migrate=False)
        pruned = Pruner.of(settings, opened, clock).prune()
        opened.engine.dispose()
    return ", ".join(f"{kind}: {size:,} bytes" for kind, size in pruned.items())
