"""DRAFT -> OPEN: load, clean, deduplicate and split the rows; publish the train rows by digest; bind the held-out rows."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass

from gradients.bases.bases import BaseModels
from gradients.datasets.access import OUTSIDERS, Access, SynthesisEndpoint
from gradients.domain.task import Prepared, TaskState
from gradients.log import get_logger
from gradients.repo.store import ContentStore
from gradients.tasks.preparation import prepare
from gradients.tasks.registry import check_family, task_type
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.lease import Claim

log = get_logger("prepare")


@dataclass(frozen=True, slots=True)
class PrepareStage:
    """Runs once per task; running again with the same salt leaves the same bytes."""

    ledger: Ledger
    bases: BaseModels
    store: ContentStore
    folders: Folders
    access: Access = OUTSIDERS
    endpoint: SynthesisEndpoint | None = None  # of held-out rows in addition

    async def run(self, claim: Claim) -> None:
        """Prepare the task's data in a thread. Raises CustomerError for data or a base that cannot be used."""
        prepared = await asyncio.to_thread(self._prepare, claim)
        await asyncio.to_thread(
            self.ledger.tasks.advance, claim.lease, came_from=TaskState.DRAFT, to=TaskState.OPEN, prepared=prepared
        )
        log.info("task_opened", task=claim.task.id, train=prepared.train_rows, held_out=prepared.held_out_rows)

    def _prepare(self, claim: Claim) -> Prepared:
        request, folder = claim.task.request, self.folders.prepared(claim.task.id)
        base, kind = self.bases.resolve(request.base), task_type(request.type)
        check_family(kind, request.base, base.family)
        data = prepare(kind, request, salt=claim.salt, folder=folder, access=self.access, endpoint=self.endpoint)
        for file in (data.train_file, data.held_out_file):
            self.store.add_file(file)
        shutil.rmtree(folder)
        return Prepared(
            base_digest=base.digest,
            base_parameters=base.parameters,
            train=data.train,
            held_out=data.held_out,
            train_rows=data.train_rows,
            held_out_rows=data.held_out_rows,
            held_out_commitment=data.held_out_commitment,
            removed=data.removed,
            made_up_rows=data.made_up_rows,
        )
