"""DRAFT -> OPEN: load, clean, deduplicate and split the rows; publish the train rows by digest; bind the held-out rows."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gradients.bases.bases import BaseInfo, BaseModels
from gradients.datasets.access import OUTSIDERS, Access, SynthesisEndpoint
from gradients.domain.task import Prepared, TaskRequest, TaskState
from gradients.execution.job import Executor
from gradients.log import get_logger
from gradients.repo.store import ContentStore
from gradients.tasks.jobs import TrialResult
from gradients.tasks.preparation import PreparedData, prepare
from gradients.tasks.registry import check_family, task_type
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.lease import Claim
from validator.trials import try_base

log = get_logger("prepare")


@dataclass(frozen=True, slots=True)
class PrepareStage:
    """Runs once per task; running again with the same salt leaves the same bytes."""

    ledger: Ledger
    bases: BaseModels
    store: ContentStore
    folders: Folders
    executor: Executor
    access: Access = OUTSIDERS
    endpoint: SynthesisEndpoint | None = None  # of held-out rows in addition

    async def run(self, claim: Claim) -> None:
        """Prepare the task's data in a thread, and try them with the base. Raises CustomerError for what cannot be used."""
        request, folder = claim.task.request, self.folders.prepared(claim.task.id)
        base, data = await asyncio.to_thread(self._prepare, claim.task.request, claim.salt, folder)
        tried = await try_base(self.executor, request, base, lambda: _lines(data), folder=folder / "trial")
        prepared = await asyncio.to_thread(self._publish, base, data, folder, tried)
        await asyncio.to_thread(
            self.ledger.tasks.advance, claim.lease, came_from=TaskState.DRAFT, to=TaskState.OPEN, prepared=prepared
        )
        log.info("task_opened", task=claim.task.id, train=prepared.train_rows, held_out=prepared.held_out_rows)

    def _prepare(self, request: TaskRequest, salt: bytes, folder: Path) -> tuple[BaseInfo, PreparedData]:
        base, kind = self.bases.resolve(request.base), task_type(request.type)
        check_family(kind, request.base, base.family)
        return base, prepare(kind, request, salt=salt, folder=folder, access=self.access, endpoint=self.endpoint)

    def _publish(self, base: BaseInfo, data: PreparedData, folder: Path, tried: TrialResult | None) -> Prepared:
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
            tried_rows=tried.rows if tried else 0,
            cut_rows=tried.cut_rows if tried else 0,
        )


def _lines(data: PreparedData) -> Iterator[str]:
    for path in (data.train_file, data.held_out_file):
        with path.open(encoding="utf-8") as file:
            yield from file
