"""The jobs by which a task's entrants are measured: what they are told, where they run, and how long each entrant may take."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from gradients.bases.bases import BaseInfo
from gradients.domain.json import JsonObject
from gradients.domain.seasons import season_of
from gradients.domain.seeds import seed
from gradients.domain.task import Task
from gradients.errors import GradientsError, JobFailed
from gradients.execution.devices import CPU, Device, stored_bytes
from gradients.execution.job import WAITING, Executor, Held, Job
from gradients.execution.records import forget_result
from gradients.log import get_logger
from gradients.repo.store import ContentStore
from gradients.tasks.base import TaskType
from gradients.tasks.jobs.measuring import HOLD, Entrant, HoldJob, MeasureJob
from gradients.tasks.jobs.message import Parameters
from gradients.tasks.registry import needs_sandbox, task_type
from validator.folders import Folders
from validator.ledger.lease import Claim
from validator.measuring.sketches import SketchSecret
from validator.settings import MeasureSettings

SHEET_SECONDS = 600.0

log = get_logger("measure")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The evaluation of one task."""

    task: Task
    kind: TaskType
    base: BaseInfo
    arguments: MeasureJob  # without entrants
    executor: Executor
    folders: Folders
    settings: MeasureSettings

    @classmethod
    def of(
        cls,
        claim: Claim,
        base: BaseInfo,
        deadline_hash: str,
        store: ContentStore,
        executor: Executor,
        folders: Folders,
        settings: MeasureSettings,
    ) -> Evaluation:
        """The evaluation of a claimed task. What it is told is the same whenever the task is measured.

        Args:
            deadline_hash: of the block in which the task's time for miners ended.
        """
        task = claim.task
        secret = SketchSecret.kept_in(folders.sketch_secret)
        arguments = MeasureJob(
            base_folder=base.folder,
            held_out_file=store.path(task.data.held_out.sha256),
            parameters=cast(Parameters, task.request.parameters),
            entrants=(),
            results_folder=folders.results(task.id),
            seed=seed(claim.salt, "measure", deadline_hash),
            sketch_key=secret.key(task.data.base_digest, season=season_of(task.blocks.deadline_block)),
        )
        return cls(task, task_type(task.request.type), base, arguments, executor, folders, settings)

    def on_blocks(self, blocks: Sequence[Sequence[int]], results: Path, *, sketch: bool) -> Evaluation:
        """The same on some rows only, block by block.

        Args:
            results: where files about entrants go.
            sketch: whether fingerprints are taken.
        """
        arguments = self.arguments.model_copy(
            update={
                "blocks": tuple(tuple(block) for block in blocks),
                "results_folder": results,
                "sketch_key": self.arguments.sketch_key if sketch else "",
            }
        )
        return replace(self, arguments=arguments)

    async def run(self, entrants: Sequence[Entrant], devices: Sequence[Device]) -> None:
        """Measure `entrants`, in their order; their results lie in the task's folder afterwards, as far as it came.

        Raises JobFailed when the worker broke off, or when an entrant took longer than it may (job_deadline).
        """
        job = self._job(entrants, devices)
        begun = set[str]()
        names = {entrant.id for entrant in entrants}
        try:
            async with asyncio.timeout(self.settings.deadline_seconds) as clock:

                def report(told: JsonObject) -> None:
                    if told is WAITING:
                        clock.reschedule(asyncio.get_running_loop().time() + self.settings.deadline_seconds)
                        return
                    entrant = told.get("entrant")
                    if isinstance(entrant, str) and entrant in names - begun:  # each has a clock of its own, once
                        begun.add(entrant)
                        clock.reschedule(asyncio.get_running_loop().time() + self.settings.deadline_seconds)
                    # the fields that are known: the worker reads strangers' bytes
                    log.info(
                        "measuring",
                        task=self.task.id,
                        entrant=entrant,
                        rows_done=told.get("rows_done"),
                        rows=told.get("rows"),
                    )

                await self.executor.run(job, report=report)
        except TimeoutError as error:
            raise JobFailed(
                f"An entrant took longer than {self.settings.deadline_seconds:g} s", code="job_deadline"
            ) from error
        finally:  # entrants' results count; a job that is asked for again has to run again
            await asyncio.to_thread(forget_result, job)

    async def finish(self) -> None:
        """Leave what the type puts together of all entrants, for people to look at."""
        if self.kind.finish is None:
            return
        job = replace(
            self._job((), ()),
            function=self.kind.finish,
            folder=self.folders.job(self.task.id, "finish"),
            deadline_seconds=SHEET_SECONDS,
            accelerator=False,
            holds=None,
        )
        try:
            await self.executor.run(job, report=lambda _: None)
        except GradientsError as error:  # nothing is paid by it
            log.warning("sheet_failed", task=self.task.id, problem=str(error))

    def _job(self, entrants: Sequence[Entrant], devices: Sequence[Device]) -> Job:
        arguments = self.arguments.model_copy(update={"entrants": tuple(entrants)})
        first = entrants[0].id if entrants else "none"
        held = HoldJob(
            base_folder=self.base.folder,
            base_digest=self.base.digest,
            family=self.base.family,
            on_gpu=any(device.name != CPU for device in devices),
        )
        return Job(
            function=self.kind.measure,
            arguments=arguments.model_dump(mode="json"),
            folder=self.folders.job(self.task.id, f"measure-{arguments.results_folder.name}-{first}"),
            deadline_seconds=self.settings.deadline_seconds * (len(entrants) + 1),
            threads=self.settings.threads,
            reads=arguments.reads(),
            writes=(arguments.results_folder,),
            accelerator=True,
            runs_programs=needs_sandbox(self.task.request),
            devices=tuple(name for device in devices for name in device.visible),
            holds=None
            if sum(device.name != CPU for device in devices)
            > 1  # a base larger than a GPU goes from the disk to several
            else Held(
                HOLD, held.model_dump(mode="json"), reads=(self.base.folder,), bytes=2 * stored_bytes(self.base.folder)
            ),
        )
