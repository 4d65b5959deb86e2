"""DRAFT -> OPEN: load, clean, deduplicate and split the rows; publish the train rows by digest; bind the held-out rows.

What costs most comes last: the base, which is fetched or made when there are rows for it. Bytes are fetched here, and read by a worker
that has no network: parsers and bombs stay out of this process. Of the places in which this machine works a task has one only when its
bytes are here, so slow servers of customers hold none.
"""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from gradients.bases.bases import BaseInfo, BaseModels
from gradients.datasets.access import OUTSIDERS, Access, SynthesisEndpoint
from gradients.datasets.synthesis import ask
from gradients.domain.task import Blob, Prepared, TaskRequest, TaskState
from gradients.errors import CustomerError
from gradients.execution.job import Executor
from gradients.files.plain import check_plain
from gradients.log import get_logger
from gradients.repo.store import ContentStore
from gradients.tasks.jobs.rows import PREPARE, TRIED_ROWS, PrepareJob, PrepareResult, TrialResult
from gradients.tasks.preparation import HELDOUT_FILE, TRAIN_FILE, Fetched, held_out_commitment
from gradients.tasks.registry import TYPES, check_family, task_type
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.lease import Claim
from validator.settings import MOST_FETCHES, ReadingSettings
from validator.specs.continuing import Continuing, winner_before
from validator.specs.places import FetchPlaces
from validator.specs.reading import fetch_data, read_data
from validator.specs.trials import try_base

MOST_ROWS_BYTES = 8 * 1024**3  # of a file that a worker leaves; sources are smaller, and rows grow by what is retrieved
# A fetch of a task that was taken back takes a while to end, and bases are fetched too.
MOST_THREADS = 2 * MOST_FETCHES
SCRATCH = "scratch"  # rows and weights, below the folder of preparation; workers' logs lie beside it

Value = TypeVar("Value")

log = get_logger("prepare")


@dataclass(frozen=True, slots=True)
class Turns:
    """What tasks that are prepared at the same time take turns at: the machine bears so many at once, and none may hold up all others."""

    fetching: FetchPlaces = field(default_factory=FetchPlaces)  # one of each task that is worked on at all
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))  # for all that follows the fetch
    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))  # each has a worker's memory
    making: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))  # each wants room on the disk
    trying: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))  # each has a model in memory


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
    turns: Turns = field(default_factory=Turns)
    threads: ThreadPoolExecutor = field(  # its own: a slow source or hub must not hold up the daemon
        default_factory=lambda: ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="prepare")
    )

    async def run(self, claim: Claim) -> None:
        """Prepare the task's data, and try them with the base. Raises CustomerError for what cannot be used.

        However it ends, no rows and no weights are left beside the store; of a failure of ours its workers' logs stay.
        """
        folder = self.folders.prepared(claim.task.id)
        await asyncio.to_thread(_remove, folder)
        try:
            with self.turns.fetching.place() as place:
                prepared = await self._prepared(claim, folder, place)
        except CustomerError:
            await asyncio.to_thread(_remove, folder)
            raise
        finally:
            await asyncio.to_thread(_remove, folder / SCRATCH)
        await asyncio.to_thread(_remove, folder)
        await asyncio.to_thread(
            self.ledger.tasks.advance, claim.lease, came_from=TaskState.DRAFT, to=TaskState.OPEN, prepared=prepared
        )
        log.info("task_opened", task=claim.task.id, train=prepared.train_rows, held_out=prepared.held_out_rows)

    async def _prepared(self, claim: Claim, folder: Path, place: object) -> Prepared:
        """The rows first, which cost the customer's server most, and then the base, which may be as large as this disk."""
        task, scratch = claim.task, folder / SCRATCH
        customer = await asyncio.to_thread(self.ledger.tasks.customer_of, task.id) or ""
        winner = await asyncio.to_thread(winner_before, self.ledger, self.folders, task.request, customer=customer)
        kind = task_type(task.request.type)
        fetch = fetch_data(self.threads, kind, task.request, scratch / "fetched", self.access)
        fetched = await self.turns.fetching.fetched(place, fetch, scratch / "fetched", waits=self._others_wait)
        async with self.turns.places:
            job, result = await self._rows(claim, folder, fetched)
            continuing, made = Continuing(self.bases, self.store, self.folders, self.executor), None
            if winner is not None:
                async with self.turns.making:
                    made = await continuing.make(winner, task, scratch / "base", job_folder=folder / "base")
            base = made.base if made else await self._in_thread(partial(self._named, task.request))
            async with self.turns.trying:
                rows = job.folder / TRIED_ROWS
                tried = await try_base(self.executor, task.request, base, rows, folder=folder / "trial")
            parent = await asyncio.to_thread(continuing.keep, task, made) if made else None
            prepared = await asyncio.to_thread(self._keep, claim, base, job.folder, result, tried)
        return dataclasses.replace(prepared, parent=parent)

    def _others_wait(self) -> bool:
        """Whether there is a task that would be worked on if there were a place. Blocking."""
        return bool(self.ledger.tasks.due([TaskState.DRAFT], block=0, one_per_customer=True))

    async def _rows(self, claim: Claim, folder: Path, fetched: Fetched) -> tuple[PrepareJob, PrepareResult]:
        """The rows, read; the job says where they are."""
        request, scratch = claim.task.request, folder / SCRATCH
        job = PrepareJob(
            declaration=TYPES[request.type],
            request=dataclasses.asdict(request),
            fetched=tuple(fetched),
            salt=claim.salt.hex(),
            folder=scratch / "rows",
            show_rows=self.endpoint.rows if self.endpoint else 0,
            most_held_out=self.reading.most_held_out,
        )
        result = await self._read(job, folder / "job")
        if self.endpoint and (written := await self._in_thread(partial(ask, self.endpoint, result.shown))):
            again = job.model_copy(update={"written": tuple(written), "show_rows": 0})
            result = await self._read(again, folder / "job")
        return job, result

    async def _in_thread(self, call: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self.threads, call)

    def _named(self, request: TaskRequest) -> BaseInfo:
        """The base that the request names, fetched if need be. Blocking."""
        base = self.bases.resolve(request.base)
        check_family(task_type(request.type), request.base, base.family)
        return base

    async def _read(self, job: PrepareJob, folder: Path) -> PrepareResult:
        async with self.turns.reading:
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
