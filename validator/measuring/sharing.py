"""Entrants measured on all devices that are free: shared out in jobs of several, whoever breaks off alone at the end.

Each entrant has a clock of its own. When a worker dies or an entrant's time is over, that entrant is put aside and the others of its job go
on; when they are done it has one try alone. So a submission that brings a worker down costs nobody else anything, and itself no
points: its failure is the validator's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from gradients.domain.failure import Failure
from gradients.domain.submission import BASE_ENTRANT
from gradients.errors import Blame, JobFailed
from gradients.execution.devices import Device
from gradients.log import get_logger
from gradients.tasks.jobs.measuring import Entrant
from validator.measuring.entrants import Entrants
from validator.measuring.evaluation import Evaluation

MOST_TOGETHER = 16  # entrants of one job: then another task has its turn
MOST_BROKEN = 3  # jobs in a row that leave nothing at all; what is wrong then is not an entrant

Lease = Callable[[], AbstractAsyncContextManager[tuple[Device, ...]]]  # of the devices for one job

log = get_logger("measure")


@dataclass
class _Field:
    """The entrants of a task that wait to be measured together, and those that broke off."""

    waiting: deque[Entrant]
    shares: int  # how many jobs are made of them at once
    broken: int = 0  # jobs in a row without any result

    @property
    def is_open(self) -> bool:
        return bool(self.waiting) and self.broken < MOST_BROKEN

    def take(self) -> list[Entrant]:
        """Entrants for one job: fewer towards the end, so that all devices are done at about the same time."""
        count = len(self.waiting) if self.shares == 1 else -(-3 * len(self.waiting) // (4 * self.shares))
        return [self.waiting.popleft() for _ in range(min(count, MOST_TOGETHER))]


@dataclass(frozen=True, slots=True)
class Measuring:
    """How the entrants of one task are measured."""

    evaluation: Evaluation
    lease: Lease
    shares: int  # how many jobs are made of them at once, at most

    async def run(self, entrants: Entrants, waiting: Sequence[Entrant]) -> None:
        """Measure those who wait, in their order. Raises JobFailed when not even the base can be measured."""
        await self._together(entrants, _Field(deque(waiting), min(self.shares, len(waiting))))
        for entrant in await asyncio.to_thread(entrants.missing):
            await self._alone(entrants, entrant)

    async def _together(self, entrants: Entrants, waiting: _Field) -> None:
        """Measure all that can be measured in company; who breaks off is left for later."""

        async def share() -> None:
            while waiting.is_open:
                async with self.lease() as devices:
                    if waiting.is_open:  # others may have been quicker while this share waited
                        await self._one_job(entrants, waiting, devices)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(waiting.shares):
                    group.create_task(share())
        except BaseExceptionGroup as errors:  # of several that fail for one reason, one is enough
            raise errors.exceptions[0] from None

    async def _one_job(self, entrants: Entrants, waiting: _Field, devices: Sequence[Device]) -> None:
        some = waiting.take()
        try:
            await self.evaluation.run(some, devices)
        except JobFailed as error:
            log.warning("evaluation_broke_off", task=self.evaluation.task.id, entrants=len(some), problem=str(error))
            left = await asyncio.to_thread(entrants.record, some)
            waiting.broken = waiting.broken + 1 if len(left) == len(some) else 0
            waiting.waiting.extendleft(
                reversed(left[1:])
            )  # jobs go in order, so the first without a result was the one
        else:
            await asyncio.to_thread(entrants.record, some)
            waiting.broken = 0

    async def _alone(self, entrants: Entrants, entrant: Entrant) -> None:
        """The last try of a submission; what goes wrong now ends it, by our fault. Raises JobFailed for the base."""
        try:
            async with self.lease() as devices:
                await self.evaluation.run([entrant], devices)
            problem = ""
        except JobFailed as error:
            problem = error.message
        if not await asyncio.to_thread(entrants.record, [entrant]):
            return
        said = await asyncio.to_thread(entrants.problem, entrant)
        problem = problem or said or "the worker left no number and no reason"
        if entrant.id == BASE_ENTRANT:
            raise JobFailed(f"The base could not be measured: {problem}")
        failure = Failure(Blame.OPERATOR, "evaluation_failed", f"The evaluation broke off: {problem}")
        await asyncio.to_thread(entrants.failed, entrant, failure)
