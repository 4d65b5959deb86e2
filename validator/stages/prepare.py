"""DRAFT -> OPEN: load, clean, deduplicate and split the rows; publish the train rows by digest; bind the held-out rows.

Bytes are fetched here, and read by a worker that has no network: parsers and bombs stay out of this process.
"""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from gradients.bases.bases import BaseInfo, BaseModels
from gradients.datasets.access import OUTSIDERS, Access, SynthesisEndpoint
from gradients.datasets.synthesis import ask
from gradients.domain.task import Blob, Parent, Prepared, Task, TaskState
from gradients.execution.job import Executor
from gradients.files.plain import check_plain
from gradients.log import get_logger
from gradients.repo.store import ContentStore
from gradients.tasks.jobs import PREPARE, TRIED_ROWS, PrepareJob, PrepareResult, TrialResult
from gradients.tasks.preparation import HELDOUT_FILE, TRAIN_FILE, fetch_sources, held_out_commitment
from gradients.tasks.registry import TYPES, check_family, task_type
from validator.continuing import Continuing, winner_before
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.lease import Claim
from validator.reading import read_data
from validator.settings import ReadingSettings
from validator.trials import try_base

MOST_ROWS_BYTES = 8 * 1024**3  # of a file that a worker leaves; sources are smaller, and rows grow by what is retrieved

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
    reading: ReadingSettings = field(default_factory=ReadingSettings)

    async def run(self, claim: Claim) -> None:
        """Prepare the task's data, and try them with the base. Raises CustomerError for what cannot be used."""
        folder = self.folders.prepared(claim.task.id)
        await asyncio.to_thread(_remove, folder)
        base, parent = await self._base(claim.task)
        fetched = await asyncio.to_thread(
            fetch_sources,
            task_type(claim.task.request.type),
            claim.task.request,
            folder / "fetched",
            access=self.access,
        )
        job = PrepareJob(
            declaration=TYPES[claim.task.request.type],
            request=dataclasses.asdict(claim.task.request),
            fetched=tuple(fetched),
            salt=claim.salt.hex(),
            folder=folder / "rows",
            show_rows=self.endpoint.rows if self.endpoint else 0,
            most_held_out=self.reading.most_held_out,
        )
        result = await self._read(job, folder / "job")
        if self.endpoint and (written := await asyncio.to_thread(ask, self.endpoint, result.shown)):
            again = job.model_copy(update={"written": tuple(written), "show_rows": 0})
            result = await self._read(again, folder / "job")
        tried = await try_base(
            self.executor, claim.task.request, base, job.folder / TRIED_ROWS, folder=folder / "trial"
        )
        prepared = await asyncio.to_thread(self._keep, claim, base, job.folder, result, tried)
        prepared = dataclasses.replace(prepared, parent=parent)
        await asyncio.to_thread(_remove, folder)
        await asyncio.to_thread(
            self.ledger.tasks.advance, claim.lease, came_from=TaskState.DRAFT, to=TaskState.OPEN, prepared=prepared
        )
        log.info("task_opened", task=claim.task.id, train=prepared.train_rows, held_out=prepared.held_out_rows)

    async def _base(self, task: Task) -> tuple[BaseInfo, Parent | None]:
        """The task's base; of one that goes on from another it is made."""
        request, customer = task.request, await asyncio.to_thread(self.ledger.tasks.customer_of, task.id)
        winner = await asyncio.to_thread(winner_before, self.ledger, self.folders, request, customer=customer or "")
        if winner is not None:
            continuing = Continuing(self.bases, self.store, self.folders, self.executor)
            return await continuing.base_after(winner, task)
        base = await asyncio.to_thread(self.bases.resolve, request.base)
        check_family(task_type(request.type), request.base, base.family)
        return base, None

    async def _read(self, job: PrepareJob, folder: Path) -> PrepareResult:
        result = await read_data(self.executor, PREPARE, job, folder=folder, settings=self.reading)
        return PrepareResult.model_validate(result)

    def _keep(
        self, claim: Claim, base: BaseInfo, rows: Path, result: PrepareResult, tried: TrialResult | None
    ) -> Prepared:
        """The rows in the store, by digests that are taken here, whatever their worker says."""
        train, held_out = (self._blob(rows / name) for name in (TRAIN_FILE, HELDOUT_FILE))
        return Prepared(
            base_digest=base.digest,
            base_parameters=base.parameters,
            train=train,
            held_out=held_out,
            train_rows=result.train_rows,
            held_out_rows=result.held_out_rows,
            held_out_commitment=held_out_commitment(claim.salt, held_out.sha256, claim.task.request),
            removed=result.removed,
            made_up_rows=result.made_up_rows,
            tried_rows=tried.rows if tried else 0,
            cut_rows=tried.cut_rows if tried else 0,
            sources=result.sources,
        )

    def _blob(self, file: Path) -> Blob:
        size = check_plain(file, most_bytes=MOST_ROWS_BYTES).stat().st_size
        return Blob(sha256=self.store.add_file(file), size_bytes=size)


def _remove(folder: Path) -> None:
    """Nothing of a run, this one or one that a crash cut off, is left beside the store."""
    shutil.rmtree(folder, ignore_errors=True)
