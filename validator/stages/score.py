"""MEASURED -> SCORED: places and points by the rules in force when the task was started."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from gradients.clock import Clock
from gradients.domain.evaluation import Measurement, Placing
from gradients.domain.failure import Failure
from gradients.domain.submission import BASE_ENTRANT, Submission
from gradients.domain.task import Task, TaskState
from gradients.errors import Blame
from gradients.scoring.placing import Entry, place, size_factor
from gradients.scoring.rules import Rules, rules_at
from validator.ledger import Ledger
from validator.ledger.lease import Claim
from validator.ledger.placings import add_placings

NOT_MEASURED = Failure(Blame.OPERATOR, "not_measured", "The validator could not measure this submission")


@dataclass(frozen=True, slots=True)
class ScoreStage:
    """Writes a task's points in the transaction that makes it SCORED, so a task is scored once."""

    ledger: Ledger
    clock: Clock

    async def run(self, claim: Claim) -> None:
        """Score the task from what the ledger holds; nothing else goes in."""
        await asyncio.to_thread(self._score, claim)

    def _score(self, claim: Claim) -> None:
        task, now = claim.task, self.clock.now()
        rules = rules_at(task.blocks.started_at_block)
        placings = placings_of(
            task, self.ledger.submissions.of_task(task.id), self.ledger.submissions.measurements(task.id), rules
        )

        def write(session: Session) -> None:
            add_placings(session, task, placings, rules_version=rules.version, now=now)

        self.ledger.tasks.advance(claim.lease, came_from=TaskState.MEASURED, to=TaskState.SCORED, also=write)


def placings_of(
    task: Task, submissions: Sequence[Submission], measurements: Mapping[str, Measurement], rules: Rules
) -> list[Placing]:
    """Everybody's place and points, from the rows that an auditor can read too."""
    base = measurements[BASE_ENTRANT]
    factor = size_factor(parameters=task.data.base_parameters, hours=task.request.hours, rules=rules)
    entries = []
    for submission in submissions:
        measured = measurements.get(submission.hotkey)
        failure = None if measured else submission.failure or NOT_MEASURED
        value = measured.value if measured else None
        entries.append(Entry(submission.hotkey, value, submission.committed_at_block or 0, failure))
    return place(entries, base_value=base.value, better=base.metric.better, factor=factor, rules=rules)
