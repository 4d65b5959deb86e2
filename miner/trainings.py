"""The training of one task: planned, run, planned smaller where memory asks for it, and brought to whatever it came to.

Covers: a worker that dies (restarts.py) or is killed at the deadline, plans that need too much. Does not cover: rows, describing and
committing (attempt.py), and what a worker does (gradients/tasks/workers).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gradients.bases.bases import BaseInfo, BaseModels
from gradients.clock import Clock
from gradients.domain.json import JsonObject
from gradients.errors import JobFailed, ModelUnknown
from gradients.execution.job import Executor, Job
from gradients.log import get_logger
from gradients.tasks.hand_in import HandIn
from gradients.tasks.jobs.training import TrainingPlan, TrainJob, TrainResult
from gradients.tasks.picture_footprint import size_in
from gradients.tasks.registry import task_type
from miner.engines import Speed
from miner.experience import Found, informed
from miner.fitting import Fitted, Known, fitted_plan, longest_row
from miner.journal import REPO, Journal, Record
from miner.memory import Memory
from miner.plan import Recipe
from miner.restarts import PlanTooLarge, run_worker
from miner.settings import MinerSettings
from miner.tracking.tracking import Tracking

ROWS = "train.jsonl"
CHECKPOINT = "checkpoint"

Tell = Callable[[str, JsonObject], None]  # task, a trainer's progress
log = get_logger("attempt")


@dataclass(frozen=True, slots=True)
class Trainings:
    """Trains."""

    journal: Journal
    executor: Executor
    bases: BaseModels
    recipe: Recipe
    memory: Memory
    settings: MinerSettings
    clock: Clock
    tell: Tell
    tracking: Tracking = field(default_factory=Tracking)

    async def run(self, record: Record) -> TrainResult:
        """The trained model in the task's repo folder, by the best plan that memory holds: one that it does not makes room for the next.

        One that breaks off, or is not done in time, comes to what it had handed in until then; raises JobFailed where that is nothing.
        """
        start, until = record.start, record.train_until or self.clock.now()
        first: JobFailed | None = None
        base = await asyncio.to_thread(self.bases.resolve, record.base)
        if base.digest != start.offer.base_digest:
            raise ModelUnknown(f"The base {start.offer.base} is another one here", code="base_mismatch")
        past = self._past(record)
        while True:
            fitted = await asyncio.to_thread(self._fitted, record, base, past)
            found_before = [each.found for each in past if each.found is not None]
            plan = informed(fitted.plan, found_before, parameters=base.parameters)
            reasons = fitted.fit.reasons if fitted.fit else ()
            log.info("planned", base=base.name, engine=fitted.engine.engine, reasons=(*reasons, fitted.engine.reason))
            less = await asyncio.to_thread(self._less, record, base, past)
            try:
                result = await self._trained(record, base, plan, until=until, is_least=less is None)
                break
            except JobFailed as error:
                first = first or error
                if error.code == "job_killed" and fitted.fit is not None and not fitted.single_rows:
                    less = {"single_rows": True}
                if not isinstance(error, PlanTooLarge) or less is None or self.clock.now() >= until:
                    return self._handed_in(record, first)
                log.warning("plan_lowered", task=record.task_id, code=error.code, **less)
                record = self.journal.change(record.task_id, **less)
        if result.beats_base is False:
            losses = {"ours": result.validation_loss, "base": result.base_validation_loss}
            log.warning("base_not_beaten", task=record.task_id, **losses)
        found = Found.of(result, plan, recipe_rate=fitted.plan.learning_rate, parameters=base.parameters)
        speed = Speed.of(result, plan, parameters=base.parameters)
        self.journal.change(record.task_id, found=found, speed=speed)
        return result

    def _handed_in(self, record: Record, error: JobFailed) -> TrainResult:
        """What a training that broke off had handed in until then. Raises what it broke off with where that is nothing."""
        folder = self.journal.folder(record.task_id)
        left = HandIn.left_in(folder / CHECKPOINT, folder / REPO)
        if left is None:
            raise error
        log.warning(
            "training_cut_short", task=record.task_id, code=error.code, steps=left.result.steps, problem=str(error)
        )
        return left.result

    def _past(self, record: Record) -> list[Record]:
        """The tasks of its type that were over when it was started, the newest first: a restart plans the same again."""
        kind, block = record.start.offer.type, record.start.started_at_block
        return [
            each
            for each in reversed(self.journal.all())
            if each.start.offer.type == kind and (each.committed_at_block or block) < block
        ]

    def _fitted(self, record: Record, base: BaseInfo, past: Sequence[Record]) -> Fitted:
        """The recipe's plan as it fits; it was looked at before the task was taken, when nothing was known of its rows."""
        start = record.start
        known = Known(
            parameters=start.parameters,
            longest_row=longest_row(self.journal.folder(record.task_id) / ROWS),
            lowered=record.lowered,
            single_rows=record.single_rows,
        )
        return fitted_plan(
            self.recipe,
            kind=start.offer.type,
            shape=size_in(base.folder, base.parameters),
            memory=self.memory.share(self.settings.concurrent_tasks),
            known=known,
            past=[each.speed for each in past if each.speed is not None],
        )

    def _less(self, record: Record, base: BaseInfo, past: Sequence[Record]) -> dict[str, int] | None:
        """What the record has to say for a way of training that takes less memory; None where there is none."""
        changes = {"lowered": record.lowered + 1}
        fitted = self._fitted(record.model_copy(update=changes), base, past)
        return changes if fitted.fit is not None and fitted.fits else None

    async def _trained(
        self, record: Record, base: BaseInfo, plan: TrainingPlan, *, until: float, is_least: bool
    ) -> TrainResult:
        """What a plan comes to. Raises JobFailed, and PlanTooLarge where another one may do.

        Args:
            is_least: whether no way of training takes less memory.
        """
        start, folder = record.start, self.journal.folder(record.task_id)
        arguments = TrainJob(
            base_folder=base.folder,
            train_file=folder / ROWS,
            parameters=start.parameters,
            plan=plan,
            seed=start.seed,
            deadline_unix=until,
            checkpoint_folder=folder / CHECKPOINT,
            output_folder=folder / REPO,
        )
        job = Job(
            function=task_type(start.offer.type).train,
            arguments=arguments.model_dump(mode="json"),
            folder=folder / "job",
            deadline_seconds=max(until - self.clock.now(), 0.0) + self._grace_seconds,
            threads=self.settings.threads,
        )
        offer = start.offer
        about = {"type": offer.type, "base": offer.base, "hours": offer.hours, **plan.model_dump(mode="json")}

        def report(progress: JsonObject) -> None:
            self.tell(record.task_id, progress)
            self.tracking.tell(record.task_id, progress)

        async with self.tracking.run(record.task_id, about):
            told = await run_worker(
                self.executor,
                job,
                report=report,
                clock=self.clock,
                until=until,
                grace_seconds=self._grace_seconds,
                is_least=is_least,
            )
        return TrainResult.model_validate(told)

    @property
    def _grace_seconds(self) -> float:
        """Beyond the end of training, for a worker to end in; the rest of what is kept is for describing and committing."""
        return self.settings.keep_seconds / 2
