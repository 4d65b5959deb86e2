"""What a look at a machine comes to: a line with a name, a level, what was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from gradients.domain.json import JsonObject
from gradients.errors import GradientsError

Level = Literal["ok", "note", "missing"]  # "note": works without it; "missing": the work cannot be done like this


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    level: Level
    found: str
    advice: str = ""
    mend: Callable[[], str] | None = None  # what --fix does, and then says; only what loses nothing and costs nothing

    def as_json(self) -> JsonObject:
        """For scripts."""
        return {
            "name": self.name,
            "level": self.level,
            "found": self.found,
            "advice": self.advice,
            "can_fix": self.mend is not None,
        }


Look = Callable[[], Iterable[Finding]]


def take(looks: Sequence[Look]) -> list[Finding]:
    """What all looks find, in their order; they wait for disks, chains and programs beside each other."""
    with ThreadPoolExecutor(max_workers=len(looks)) as threads:
        return [finding for found in threads.map(lambda look: list(look()), looks) for finding in found]


def mended(findings: Iterable[Finding]) -> list[Finding]:
    """Mend what can be, one after another; what came of each, as findings of their own."""
    return [_mended(found, found.mend) for found in findings if found.mend is not None]


def _mended(found: Finding, mend: Callable[[], str]) -> Finding:
    try:
        return Finding("mended", "ok", f"{found.name}: {mend()}")
    except GradientsError as error:
        return Finding("unmended", "note", f"{found.name}: {error.message}", error.fix or "")
    except OSError as error:
        return Finding("unmended", "note", f"{found.name}: {error}", found.advice)


def at_least(least: int, there: float, *, name: str, unit: str) -> Finding:
    """Whether there is enough of something that work is slow or short without."""
    if there < least:
        return Finding(name, "note", f"{there:.0f} {unit}", f"{least} GiB or more are better")
    return Finding(name, "ok", f"{there:.0f} {unit}")
