"""What a validator needs of its machine and its subnet, beside what both daemons do: its ledger, and the customers' port."""

from __future__ import annotations

from collections.abc import Iterator

from gradients.bases.bases import DEFAULT_CACHE
from gradients.clock import Clock
from gradients.doctor.axon import port
from gradients.doctor.examination import Daemon, examine
from gradients.doctor.findings import Finding
from gradients.errors import GradientsError
from gradients.scoring.rules import VERSIONS
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

    looks = (lambda: (ledger(settings),), api)
    return examine(daemon, looks, clock, libraries=("validator.ledger.examination",))


def ledger(settings: ValidatorSettings) -> Finding:
    """Whether there is one that can be worked on; none is made."""
    from validator.ledger.examination import examine as examine_ledger  # half a second, for which `heard` leaves time

    try:
        return Finding("ledger", "ok", examine_ledger(settings.resolved_ledger_url()))
    except GradientsError as error:
        return Finding("ledger", "missing", error.message, error.fix or "")
