"""MEASURED -> SCORED: places and prizes by the rules in force when the task was started."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sqlalchemy.orm import Session

from gradients.chain.gateway import ChainGateway
from gradients.clock import Clock
from gradients.domain.task import TaskState
from gradients.log import get_logger
from gradients.scoring.contest import contest_seed
from gradients.scoring.rules import rules_at
from validator.ledger import Ledger
from validator.ledger.lease import Claim
from validator.ledger.placings import add_placings
from validator.pay.contests import contest_of

log = get_logger("score")


@dataclass(frozen=True, slots=True)
class ScoreStage:
    """Writes a task's placings in the transaction that makes it SCORED, so a task is scored once."""

    ledger: Ledger
    gateway: ChainGateway
    clock: Clock

    async def run(self, claim: Claim) -> None:
        """Score the task from what the ledger and the deadline block hold; nothing else goes in."""
        deadline_hash = await self.gateway.block_hash(claim.task.blocks.deadline_block)
        await asyncio.to_thread(self._score, claim, deadline_hash)

    def _score(self, claim: Claim, deadline_hash: str) -> None:
        task, now = claim.task, self.clock.now()
        rules = rules_at(task.blocks.started_at_block)
        contest = contest_of(
            task,
            self.ledger.submissions.of_task(task.id),
            self.ledger.submissions.measurements(task.id),
            seed=contest_seed(task.id, deadline_hash),
            earlier=self.ledger.placings.winners(task.data.base_digest, before_block=task.blocks.started_at_block),
        )
        placings = rules.place(contest)
        factor = rules.factor(parameters=contest.base_parameters, hours=contest.hours)

        def write(session: Session) -> None:
            add_placings(session, task, placings, rules_version=rules.version, factor=factor, now=now)

        self.ledger.tasks.advance(
            claim.lease, came_from=TaskState.MEASURED, to=TaskState.SCORED, deadline_hash=deadline_hash, also=write
        )
        best = next((placing.hotkey for placing in placings if placing.rank == 1), None)
        log.info("task_scored", task=task.id, entrants=len(placings), best=best)
