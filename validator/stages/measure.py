"""COLLECTED -> MEASURED: the base and every submission on the same held-out rows, on all devices that are free.

How entrants are shared out, and what happens to those that break a worker, is in measuring.py; who may stop early, where fields are raced,
in race.py. Whoever is measured with whom, on which device and after whom changes no number on one kind of device.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gradients.bases.bases import BaseModels
from gradients.chain.gateway import ChainGateway
from gradients.domain.task import TaskState
from gradients.execution.devices import CPU, Devices, stored_bytes
from gradients.execution.job import Executor
from gradients.repo.store import ContentStore
from gradients.scoring.contest import SCHEDULED, contest_seed
from gradients.tasks.registry import task_type
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.lease import Claim
from validator.measuring.entrants import Entrants
from validator.measuring.evaluation import Evaluation
from validator.measuring.race import Race
from validator.measuring.sharing import Measuring
from validator.settings import MeasureSettings
from validator.specs.continuing import base_of

WORKING_BYTES = (
    4 * 1024**3
)  # that batches take on a GPU beside the weights; a quarter of it on a CPU, whose batches are small


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
        task = claim.task
        entrants = Entrants(self.ledger, self.folders, claim, task_type(task.request.type).metric)
        if missing := await asyncio.to_thread(entrants.missing):
            # what nobody can know before the deadline, ourselves included, and what is the same whenever the task is measured
            deadline_hash = await self.gateway.block_hash(task.blocks.deadline_block)
            measuring = await self._measuring(claim, deadline_hash)
            race = Race.of(task, contest_seed(task.id, deadline_hash), entrants) if self.settings.racing else None
            if race is None:
                await measuring.run(entrants, missing)
            else:
                await race.run(measuring, missing)
            await measuring.evaluation.finish()
        await asyncio.to_thread(
            self.ledger.tasks.advance, claim.lease, came_from=TaskState.COLLECTED, to=TaskState.MEASURED
        )

    async def _measuring(self, claim: Claim, deadline_hash: str) -> Measuring:
        base = await asyncio.to_thread(base_of, claim.task, self.bases, self.folders)
        evaluation = await asyncio.to_thread(
            Evaluation.of, claim, base, deadline_hash, self.store, self.executor, self.folders, self.settings
        )
        count = await self.devices.needed(await self._size(base.folder))
        customer = await asyncio.to_thread(self.ledger.tasks.customer_of, claim.task.id)
        lease = partial(self.devices.lease, claim.task.id, count=count, synthetic=customer == SCHEDULED)
        return Measuring(evaluation, lease, len(await self.devices.all()) // count)

    async def _size(self, base: Path) -> int:
        """Bytes that a worker takes with this base: as it is stored on a GPU, in float32 on a CPU."""
        stored = await asyncio.to_thread(stored_bytes, base)
        on_gpu = any(device.name != CPU for device in await self.devices.all())
        return stored + WORKING_BYTES if on_gpu else 2 * stored + WORKING_BYTES // 4
