"""COLLECTED -> MEASURED: the base and every submission on the same held-out rows, in a worker process that loads the base once.

Only what is missing is measured. When the worker dies, or an entrant fails by our fault, the missing ones run one by one, so that a
submission that brings the worker down costs nobody else anything, and itself no points: its failure is the validator's.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from pydantic import ValidationError

from gradients.bases.bases import BaseModels
from gradients.chain.gateway import ChainGateway
from gradients.domain.evaluation import Measurement, Metric
from gradients.domain.failure import Failure
from gradients.domain.seasons import season_of
from gradients.domain.seeds import seed
from gradients.domain.submission import BASE_ENTRANT, SubmissionState
from gradients.domain.task import Task, TaskState
from gradients.errors import Blame, JobFailed, OperatorError
from gradients.execution.job import Executor, Job
from gradients.execution.records import forget_result
from gradients.files.plain import read_plain
from gradients.log import get_logger
from gradients.repo.store import ContentStore
from gradients.tasks.jobs import MOST_RESULT_BYTES, Entrant, EntrantResult, MeasureJob, Parameters
from gradients.tasks.registry import needs_sandbox, task_type
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.lease import Claim
from validator.settings import MeasureSettings
from validator.sketches import SketchSecret

log = get_logger("measure")


@dataclass(frozen=True, slots=True)
class MeasureStage:
    """Runs until every entrant has a measurement or a failure."""

    ledger: Ledger
    gateway: ChainGateway
    bases: BaseModels
    store: ContentStore
    executor: Executor
    folders: Folders
    settings: MeasureSettings

    async def run(self, claim: Claim) -> None:
        """Measure what is missing. Raises JobFailed when not even the base can be measured."""
        if missing := await asyncio.to_thread(self._missing, claim.task):
            try:  # all together; whatever that leaves without a result of its own, one by one
                await self._run_job(claim, missing)
            except JobFailed as error:
                log.warning("evaluation_crashed", task=claim.task.id, entrants=len(missing), problem=str(error))
            for entrant in await asyncio.to_thread(self._missing, claim.task):
                await self._measure_alone(claim, entrant)
        await asyncio.to_thread(
            self.ledger.tasks.advance, claim.lease, came_from=TaskState.COLLECTED, to=TaskState.MEASURED
        )

    async def _measure_alone(self, claim: Claim, entrant: Entrant) -> None:
        """The last try of a submission; what goes wrong now ends it, by our fault. Raises JobFailed for the base."""
        try:
            await self._run_job(claim, [entrant])
            problem = self._result(claim.task, entrant).failure_message or "the worker left no number and no reason"
        except JobFailed as error:
            problem = error.message
        still_missing = entrant in await asyncio.to_thread(self._missing, claim.task)
        if still_missing and entrant.id == BASE_ENTRANT:
            raise JobFailed(f"The base could not be measured: {problem}")
        if still_missing:
            failure = Failure(Blame.OPERATOR, "evaluation_failed", f"The evaluation broke off: {problem}")
            await asyncio.to_thread(self.ledger.submissions.failed, claim.lease, entrant.id, failure)

    async def _run_job(self, claim: Claim, entrants: Sequence[Entrant]) -> None:
        """One worker process for `entrants`; whatever it finished is in the ledger afterwards, even when it crashed."""
        task, kind = claim.task, task_type(claim.task.request.type)
        base = await asyncio.to_thread(self.bases.resolve, task.request.base)
        # What nobody can know before the deadline, ourselves included, and what is the same whenever the task is measured.
        secret = await asyncio.to_thread(SketchSecret.kept_in, self.folders.sketch_secret)
        deadline_hash = await self.gateway.block_hash(task.blocks.deadline_block)
        metric_seed = seed(claim.salt, "measure", deadline_hash)
        arguments = MeasureJob(
            base_folder=base.folder,
            held_out_file=self.store.path(task.data.held_out.sha256),
            parameters=cast(Parameters, task.request.parameters),
            entrants=tuple(entrants),
            results_folder=self.folders.results(task.id),
            seed=metric_seed,
            sketch_key=secret.key(task.data.base_digest, season=season_of(task.blocks.deadline_block)),
        )
        job = Job(
            function=kind.measure,
            arguments=arguments.model_dump(mode="json"),
            folder=self.folders.job(task.id, "measure" if len(entrants) != 1 else f"measure-{entrants[0].id}"),
            deadline_seconds=self.settings.deadline_seconds * len(entrants),
            threads=self.settings.threads,
            reads=arguments.reads(),
            writes=(arguments.results_folder,),
            accelerator=True,
            runs_programs=needs_sandbox(task.request),
        )
        try:
            await self.executor.run(
                job,
                report=lambda told: log.info(  # the fields that are known: the worker reads strangers' bytes
                    "measuring",
                    task=task.id,
                    entrant=told.get("entrant"),
                    rows_done=told.get("rows_done"),
                    rows=told.get("rows"),
                ),
            )
        finally:
            settled = [await asyncio.to_thread(self._record, claim, entrant, kind.metric) for entrant in entrants]
            if not all(settled):  # a job's result is adopted by the next run of the same job; this one has to run again
                await asyncio.to_thread(forget_result, job)

    def _missing(self, task: Task) -> list[Entrant]:
        """The entrants without a measurement or a failure, the base first."""
        have = self.ledger.submissions.measurements(task.id)
        waiting = [
            Entrant(id=submission.hotkey, folder=self.folders.submission(task.id, submission.hotkey))
            for submission in self.ledger.submissions.of_task(task.id)
            if submission.state is SubmissionState.COLLECTED
        ]
        return [entrant for entrant in [Entrant(id=BASE_ENTRANT), *waiting] if entrant.id not in have]

    def _result(self, task: Task, entrant: Entrant) -> EntrantResult:
        """What the worker left about an entrant, or a result that says nothing: the worker has read strangers' bytes."""
        file = self.folders.results(task.id) / f"{entrant.id}.json"
        try:
            left = EntrantResult.model_validate_json(read_plain(file, most_bytes=MOST_RESULT_BYTES))
        except FileNotFoundError:
            return EntrantResult(entrant=entrant.id)
        except (OperatorError, ValidationError) as error:
            log.warning("result_unreadable", task=task.id, entrant=entrant.id, problem=str(error))
            return EntrantResult(entrant=entrant.id)
        return left if left.entrant == entrant.id else EntrantResult(entrant=entrant.id)

    def _record(self, claim: Claim, entrant: Entrant, metric: Metric) -> bool:
        """Write down a measurement or a submission's own failure; whether there was one. What is our fault is tried again."""
        result = self._result(claim.task, entrant)
        if result.value is not None and result.stderr is not None and math.isfinite(result.value):
            measurement = Measurement(
                entrant=result.entrant,
                metric=metric,
                value=result.value,
                stderr=result.stderr,
                per_row=result.per_row,
                extras=tuple(result.extras.items()),
                fingerprint=result.fingerprint,
            )
            self.ledger.submissions.measured(claim.lease, measurement)
        elif result.failure_blame is Blame.MINER and entrant.id != BASE_ENTRANT:
            failure = Failure(Blame.MINER, result.failure_code, result.failure_message)
            self.ledger.submissions.failed(claim.lease, entrant.id, failure)
        else:
            return False
        return True
