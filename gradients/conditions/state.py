"""What a running daemon has found of what it needs, by name: the newest finding of each, told when it changes."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import Gauge

from gradients.doctor.findings import Finding
from gradients.log import get_logger

CONDITION = Gauge(
    "gradients_condition_ok", "1 while what the work needs is there, 0 while it is not; by condition", ["condition"]
)

log = get_logger("conditions")


class Conditions:
    """The newest findings. Whatever changes between met and not met is one log line, with the remedy, and one figure."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Finding, ...]] = {}  # by the look that found them

    def update(self, look: str, findings: Sequence[Finding]) -> None:
        """Put these findings in the place of what the look has found before. One that it no longer has is not known any more."""
        before = {finding.name: finding for finding in self._found.get(look, ())}
        self._found = {**self._found, look: tuple(findings)}
        for finding in findings:
            was_broken = finding.name in before and before.pop(finding.name).level == "missing"
            is_broken = finding.level == "missing"
            CONDITION.labels(finding.name).set(not is_broken)
            if is_broken and not was_broken:
                log.warning("condition_broken", condition=finding.name, found=finding.found, remedy=finding.advice)
            elif was_broken and not is_broken:
                log.info("condition_mended", condition=finding.name, found=finding.found)
        for name in before:
            CONDITION.remove(name)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All of them, by look."""
        return tuple(finding for found in self._found.values() for finding in found)

    def ready(self) -> bool:
        """Whether the work can be done: something has been looked at, and nothing that it needs is missing."""
        return bool(self.findings) and not self.against()

    def against(self, *names: str) -> str:
        """What stands against the work: of these conditions, or of all. Empty when nothing does."""
        broken = [each for each in self.findings if each.level == "missing" and (not names or each.name in names)]
        return "; ".join(f"{each.name}: {each.found}" for each in broken)
