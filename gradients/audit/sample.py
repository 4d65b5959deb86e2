"""What an audit remembers of a long record: a sample of submissions to measure again, and of every task what later records rest on."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from gradients.domain.submission import BASE_ENTRANT
from gradients.record.models import EntrantPart, TaskBody


@dataclass(slots=True)
class Sample:
    """The open submissions with the smallest lots, each with the record that it stands in."""

    chosen: list[tuple[int, str, str, str]] = field(default_factory=list)  # (-lot, task, hotkey, where), a heap
    bodies: dict[str, TaskBody] = field(default_factory=dict)  # of the tasks that are chosen from

    def consider(self, body: TaskBody, where: str, *, seed: int, most: int) -> None:
        """Take the submissions of a task in, and keep `most` of all; which ones does not depend on the order."""
        if body.salt is None:
            return
        for entrant in body.entrants:
            if entrant.measurement is None or entrant.entrant == BASE_ENTRANT:
                continue
            digest = hashlib.sha256(f"{seed}:{body.task_id}:{entrant.entrant}".encode()).digest()
            lot = int.from_bytes(digest[:8], "big")
            heapq.heappush(self.chosen, (-lot, body.task_id, entrant.entrant, where))
            self.bodies[body.task_id] = body
            if len(self.chosen) > most:
                heapq.heappop(self.chosen)
        needed = {task_id for _, task_id, _, _ in self.chosen}
        self.bodies = {task_id: kept for task_id, kept in self.bodies.items() if task_id in needed}

    def by_task(self) -> Iterator[tuple[str, TaskBody, list[str]]]:
        """(where, body, hotkeys) of every task with a chosen submission."""
        for task_id, body in sorted(self.bodies.items()):
            mine = [(hotkey, where) for _, name, hotkey, where in self.chosen if name == task_id]
            yield mine[0][1], body, sorted(hotkey for hotkey, _ in mine)


def without_rows(body: TaskBody) -> TaskBody:
    """The task less its reveals and its values by row, of which a record of years has gigabytes; the winner's fingerprint stays."""
    winners = {placing.hotkey for placing in body.placings if placing.rank == 1}

    def light(entrant: EntrantPart) -> EntrantPart:
        measured = entrant.measurement if entrant.entrant in winners else None
        kept = measured.model_copy(update={"per_row": ()}) if measured else None
        return entrant.model_copy(update={"commitment": None, "measurement": kept})

    return body.model_copy(update={"entrants": tuple(light(entrant) for entrant in body.entrants)})
