"""What an audit finds: alarms that name a field, and what could not be checked."""

from __future__ import annotations

from dataclasses import dataclass, field

from gradients.domain.json import Json
from gradients.record.models import TaskBody
from gradients.texts import harmless


@dataclass(frozen=True, slots=True)
class Alarm:
    """A value in the record that is not what it has to be."""

    where: str  # the record, and what it speaks of
    field: str  # the value's path in the record, with dots
    published: Json
    recomputed: Json  # the value that it should have, or in words what is wrong with it


@dataclass(slots=True)
class Report:
    """The outcome of an audit."""

    tasks: int = 0
    epochs: int = 0
    reevaluated: int = 0
    alarms: list[Alarm] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was not checked, and why; no alarm
    bodies: dict[str, TaskBody] = field(default_factory=dict)  # the tasks that were read, by id

    def as_json(self) -> dict[str, Json]:
        """For scripts."""
        alarms = [
            {"where": a.where, "field": a.field, "published": a.published, "recomputed": a.recomputed}
            for a in self.alarms
        ]
        return {"tasks": self.tasks, "epochs": self.epochs, "reevaluated": self.reevaluated, "alarms": alarms}

    def text(self) -> str:
        """For people."""
        counted = f"{self.tasks} tasks, {self.epochs} epochs, {self.reevaluated} submissions evaluated again"
        alarms = [
            f"ALARM  {a.where}: {a.field} is {_short(a.published)}; recomputed: {_short(a.recomputed)}"
            for a in self.alarms
        ]
        verdict = f"{len(alarms)} alarms" if alarms else "no alarms"
        lines = [*(f"note   {note}" for note in self.notes), *alarms, f"{counted}: {verdict}"]
        return "\n".join(map(harmless, lines))  # which quote what a stranger published


@dataclass(slots=True)
class Checks:
    """Compares one record's values, and keeps what differs."""

    where: str
    found: list[Alarm] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def equal(self, path: str, published: Json, recomputed: Json) -> bool:
        """Whether both are the same; an alarm if not."""
        same = published == recomputed
        if not same:
            self.alarm(path, published, recomputed)
        return same

    def holds(self, path: str, condition: bool, published: Json, problem: str) -> bool:
        """Whether the condition holds; an alarm that says the problem if not."""
        if not condition:
            self.alarm(path, published, problem)
        return condition

    def alarm(self, path: str, published: Json, recomputed: Json) -> None:
        """Keep an alarm."""
        self.found.append(Alarm(self.where, path, published, recomputed))

    def note(self, text: str) -> None:
        """Keep what could not be checked."""
        self.notes.append(f"{self.where}: {text}")


def _short(value: Json, most: int = 100) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}…"
