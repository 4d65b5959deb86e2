"""COLLECTED -> MEASURED: the base and every submission on the same held-out rows, on all devices that are free.

The entrants are shared out over devices in jobs of several; a worker that holds the base takes one job after the other. Each entrant has a
clock of its own. When a worker dies or an entrant's time is over, that entrant is put aside and the others of its job go on; when they are
done it has one try alone. So a submission that brings a worker down costs nobody else anything, and itself no points: its failure is the
validator's. Whoever is measured with whom, on which device and after whom changes no number on one kind of device.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gradients.bases.bases import BaseModels
from gradients.chain.gateway import ChainGateway
from gradients.domain.failure import Failure
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import TaskState
from gradients.errors import Blame, JobFailed
from gradients.execution.devices import CPU, Device, Devices, stored_bytes
from gradients.execution.job import Executor
from gradients.log import get_logger
from gradients.repo.store import ContentStore
from gradients.scoring.contest import SCHEDULED
from gradients.tasks.jobs import Entrant
from gradients.tasks.registry import task_type
from validator.entrants import Entrants
from validator.evaluation import Evaluation
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.lease import Claim
from validator.settings import MeasureSettings

MOST_TOGETHER = 16  # entrants of one job: then another task has its turn
MOST_BROKEN = 3  # jobs in a row that leave nothing at all; what is wrong then is not an entrant
WORKING_BYTES = (
    4 * 1024**3
)  # that batches take on a GPU beside the weights; a quarter of it on a CPU, whose batches are small

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
class MeasureStage:
    """Runs until every entrant has a measurement or a failure."""

    ledger: Ledger
    gateway: ChainGateway
    bases: BaseModels
    store: ContentStore
    executor: Executor
    devices: Devices
    folders: Folders
    settings: MeasureSettings

    async def run(self, claim: Claim) -> None:
        """Measure what is missing. Raises JobFailed when not even the base can be measured."""
        entrants = Entrants(self.ledger, self.folders, claim, task_type(claim.task.request.type).metric)
        if missing := await asyncio.to_thread(entrants.missing):
            evaluation = await self._evaluation(claim)
            count = await self.devices.needed(await self._size(evaluation.base.folder))
            customer = await asyncio.to_thread(self.ledger.tasks.customer_of, claim.task.id)
            lease = partial(self.devices.lease, claim.task.id, count=count, synthetic=customer == SCHEDULED)
            shares = min(len(await self.devices.all()) // count, len(missing))
            await self._together(evaluation, entrants, _Field(deque(missing), shares), lease)
            for entrant in await asyncio.to_thread(entrants.missing):
                await self._alone(evaluation, entrants, entrant, lease)
            await evaluation.finish()
        await asyncio.to_thread(
            self.ledger.tasks.advance, claim.lease, came_from=TaskState.COLLECTED, to=TaskState.MEASURED
        )

    async def _size(self, base: Path) -> int:
        """Bytes that a worker takes with this base: as it is stored on a GPU, in float32 on a CPU."""
        stored = await asyncio.to_thread(stored_bytes, base)
        on_gpu = any(device.name != CPU for device in await self.devices.all())
        return stored + WORKING_BYTES if on_gpu else 2 * stored + WORKING_BYTES // 4

    async def _evaluation(self, claim: Claim) -> Evaluation:
        base = await asyncio.to_thread(self.bases.resolve, claim.task.request.base)
        # what nobody can know before the deadline, ourselves included, and what is the same whenever the task is measured
        deadline_hash = await self.gateway.block_hash(claim.task.blocks.deadline_block)
        return await asyncio.to_thread(
            Evaluation.of, claim, base, deadline_hash, self.store, self.executor, self.folders, self.settings
        )

    async def _together(self, evaluation: Evaluation, entrants: Entrants, waiting: _Field, lease: Lease) -> None:
        """Measure all that can be measured in company; who breaks off is left for later."""

        async def share() -> None:
            while waiting.is_open:
                async with lease() as devices:
                    if waiting.is_open:  # others may have been quicker while this share waited
                        await self._one_job(evaluation, entrants, waiting, devices)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(waiting.shares):
                    group.create_task(share())
        except BaseExceptionGroup as errors:  # of several that fail for one reason, one is enough
            raise errors.exceptions[0] from None

    async def _one_job(
        self, evaluation: Evaluation, entrants: Entrants, waiting: _Field, devices: Sequence[Device]
    ) -> None:
        some = waiting.take()
        try:
            await evaluation.run(some, devices)
        except JobFailed as error:
            log.warning("evaluation_broke_off", task=evaluation.task.id, entrants=len(some), problem=str(error))
            left = await asyncio.to_thread(entrants.record, some)
            waiting.broken = waiting.broken + 1 if len(left) == len(some) else 0
            waiting.waiting.extendleft(
                reversed(left[1:])
            )  # jobs go in order, so the first without a result was the one
        else:
            await asyncio.to_thread(entrants.record, some)
            waiting.broken = 0

    async def _alone(self, evaluation: Evaluation, entrants: Entrants, entrant: Entrant, lease: Lease) -> None:
        """The last try of a submission; what goes wrong now ends it, by our fault. Raises JobFailed for the base."""
        try:
            async with lease() as devices:
                await evaluation.run([entrant], devices)
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
