"""One task, from its start to a committed repo, as steps that can be run again: fetch, train, describe, commit.

Each step looks first whether its result is there. A crash at any moment is followed by the same steps; training goes on from its last
checkpoint, also when it was only the worker that died. What the network, the chain or a full disk stops is tried again until the deadline.
A miner that cannot commit before the deadline does not commit at all.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gradients.axon.client import AxonClient, Peer
from gradients.bases.bases import BaseInfo, BaseModels
from gradients.chain.gateway import ChainGateway
from gradients.chain.view import ChainView
from gradients.client.repo_check import check_repo
from gradients.clock import Clock
from gradients.domain.commitment import payload
from gradients.domain.json import JsonObject
from gradients.errors import (
    DiskFull,
    GradientsError,
    JobFailed,
    LedgerConflict,
    ModelUnknown,
    OperatorError,
    OutsideError,
    PeerUnreachable,
    SubmissionLate,
)
from gradients.execution.job import Executor, Job
from gradients.files.disk import writing
from gradients.files.whole import whole_file
from gradients.log import get_logger
from gradients.monitoring.tracing import span
from gradients.repo.manifest import Manifest, TrainingSummary, describe_folder
from gradients.repo.screening import screen_folder, screen_manifest
from gradients.tasks.footprint import shape_in
from gradients.tasks.jobs import TrainingPlan, TrainJob, TrainResult
from gradients.tasks.registry import task_type
from miner.engines import Speed
from miner.experience import Found, informed
from miner.fitting import Fitted, Known, fitted_plan, longest_row
from miner.journal import REPO, Journal, Record, openings
from miner.memory import Memory
from miner.metrics import FAILURES
from miner.plan import Recipe, seconds_to_train
from miner.restarts import PlanTooLarge, run_worker
from miner.settings import MinerSettings
from miner.tracking.tracking import Tracking

REST_SECONDS = 2.0
CHECKED_SHARE = 0.25  # of what is left after training, for looking at the repo once more
FEWEST_CHECK_SECONDS = 20.0  # with less, only the files are screened
ROWS = "train.jsonl"
NO_TIME = frozenset({"submission_late", "budget_too_short"})  # what an earlier trouble ends in: that is the cause

Tell = Callable[[str, JsonObject], None]  # task, a trainer's progress
log = get_logger("attempt")


@dataclass(frozen=True, slots=True)
class Attempts:
    """Runs tasks."""

    journal: Journal
    gateway: ChainGateway
    view: ChainView
    client: AxonClient
    executor: Executor
    bases: BaseModels
    recipe: Recipe
    memory: Memory
    settings: MinerSettings
    clock: Clock
    tell: Tell
    committing: asyncio.Lock  # one slot on chain for all tasks
    tracking: Tracking = field(default_factory=Tracking)

    async def run(self, task_id: str) -> None:
        """Bring a task to its end: committed, or failed with the reason in the journal."""
        with span("attempt", task=task_id) as attempt:
            await self._run(task_id)
            attempt.set_attribute("phase", self._record(task_id).phase)

    async def _run(self, task_id: str) -> None:
        trouble: GradientsError | None = None  # the first that was waited for
        while True:
            try:
                record = self._record(task_id)
                if record.phase == "training":
                    with span("fetch", task=task_id):
                        await self._fetch(record)
                    with span("train", task=task_id):
                        result = await self._train(record)
                    with span("describe", task=task_id):
                        record = await self._describe(record, result)
                if record.phase == "trained":
                    with span("commit", task=task_id):
                        await self._commit(record)
            except (OutsideError, DiskFull) as error:
                trouble = trouble or error
                log.warning("attempt_rests", task=task_id, code=error.code, problem=str(error))
                await self.clock.sleep(REST_SECONDS)
                # A root that was sent may stand on chain, and its files are asked for until the reveal ends.
                record = self._record(task_id)
                blocks = record.start
                if self.view.block >= (blocks.reveal_until_block if record.leaves else blocks.deadline_block):
                    return self._fail(task_id, trouble)
            except GradientsError as error:
                return self._fail(task_id, error, cause=trouble if error.code in NO_TIME else None)
            except Exception as error:  # the outer loop: whatever it is, other tasks and the axon go on
                log.exception("attempt_crashed", task=task_id)
                return self._fail(task_id, OperatorError(f"{type(error).__name__}: {error}"))
            else:
                return None

    def _fail(self, task_id: str, error: GradientsError, *, cause: GradientsError | None = None) -> None:
        """Write down why the task has ended; what it ended with does not hide the trouble that led there."""
        FAILURES.labels((cause or error).blame).inc()
        log.warning("task_failed", task=task_id, code=error.code, problem=str(error), cause=cause and cause.code)
        reasons = [f"{each.code}: {each}" for each in (cause, error) if each is not None]
        try:
            self.journal.change(task_id, failure="; then ".join(reasons)[:500])
        except OperatorError as unwritable:  # a restart will find the task as it was, and its time over
            log.error("failure_unwritten", task=task_id, problem=str(unwritable))  # noqa: TRY400 (its reason is known)

    async def _fetch(self, record: Record) -> None:
        """Have the train rows, whole and by their digest."""
        blob = record.start.train
        file = self.journal.folder(record.task_id) / ROWS
        if not file.is_file():
            left = await self._seconds_left(record)
            try:
                async with asyncio.timeout(left):
                    await self._download(record.validator, blob.sha256, blob.size_bytes, file)
            except TimeoutError as error:
                raise SubmissionLate(
                    f"The train rows were not here after {left:.0f} s, when the time was over"
                ) from error

    async def _download(self, validator: str, sha256: str, size_bytes: int, file: Path) -> None:
        neuron = self.view.metagraph().by_hotkey(validator)
        if neuron is None or neuron.axon is None:
            raise PeerUnreachable(f"The validator {validator} serves no axon")
        digest, got = hashlib.sha256(), 0
        async with self.client.stream(Peer(neuron.hotkey, neuron.axon), f"/v1/data/{sha256}") as chunks:
            with whole_file(file) as stream:
                async for chunk in chunks:
                    got += len(chunk)
                    if got > size_bytes:
                        break
                    digest.update(chunk)
                    with writing(file):
                        stream.write(chunk)
                if got != size_bytes or digest.hexdigest() != sha256:
                    raise PeerUnreachable(f"The train rows arrived as {got:,} bytes that are not the announced ones")

    async def _train(self, record: Record) -> TrainResult:
        """The trained model in the task's repo folder, by the best plan that memory holds: one that it does not makes room for the next."""
        start, until = record.start, record.train_until
        first: JobFailed | None = None
        if until is None:
            until = self.clock.now() + await self._seconds_left(record)
            self.journal.change(record.task_id, train_until=until)
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
            except PlanTooLarge as error:
                first = first or error
                if error.code == "job_killed" and fitted.fit is not None and not fitted.single_rows:
                    less = {"single_rows": True}
                if less is None or self.clock.now() >= until:
                    raise first from error
                log.warning("plan_lowered", task=record.task_id, code=error.code, **less)
                record = self.journal.change(record.task_id, **less)
            except JobFailed as error:
                raise first or error from error
        if result.beats_base is False:
            losses = {"ours": result.validation_loss, "base": result.base_validation_loss}
            log.warning("base_not_beaten", task=record.task_id, **losses)
        found = Found.of(result, plan, recipe_rate=fitted.plan.learning_rate, parameters=base.parameters)
        speed = Speed.of(result, plan, parameters=base.parameters)
        self.journal.change(record.task_id, found=found, speed=speed)
        return result

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
            shape=shape_in(base.folder, base.parameters),
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
            checkpoint_folder=folder / "checkpoint",
            output_folder=folder / REPO,
        )
        job = Job(
            function=task_type(start.offer.type).train,
            arguments=arguments.model_dump(mode="json"),
            folder=folder / "job",
            deadline_seconds=max(until - self.clock.now(), 0.0) + self.settings.keep_seconds,
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
                keep_seconds=self.settings.keep_seconds,
                is_least=is_least,
            )
        return TrainResult.model_validate(told)

    async def _seconds_left(self, record: Record) -> float:
        """How long training may take from now. Raises SubmissionLate when there is no time."""
        left = seconds_to_train(
            block=self.view.block,
            deadline_block=record.start.deadline_block,
            block_seconds=await self.gateway.block_seconds(),
            keep_seconds=self.settings.keep_seconds,
        )
        if left <= 0:
            raise SubmissionLate(f"No time is left before block {record.start.deadline_block}")
        return left

    async def _describe(self, record: Record, result: TrainResult) -> Record:
        """Write the manifest of the finished repo into the journal."""
        summary = TrainingSummary(
            recipe=self.recipe.name,
            steps=result.steps,
            train_loss=result.train_loss,
            validation_loss=result.validation_loss,
            seconds=result.seconds,
        )
        manifest = await asyncio.to_thread(
            describe_folder,
            self.journal.folder(record.task_id) / REPO,
            task_id=record.task_id,
            hotkey=self.gateway.hotkey,
            base_digest=record.start.offer.base_digest,
            kind=result.kind,
            training=summary,
            terms_sha256=record.start.terms_sha256,
        )
        await self._check(record, manifest)
        return self.journal.change(record.task_id, manifest=manifest.text())

    async def _check(self, record: Record, manifest: Manifest) -> None:
        """Read the repo as the validator will, while it can still be found out here; within a part of the time that is left.

        Raises SubmissionRejected for a repo that nobody could measure. That it could not be looked at is no reason to hand nothing in.
        """
        base = await asyncio.to_thread(self.bases.resolve, record.base)
        repo = self.journal.folder(record.task_id) / REPO
        await asyncio.to_thread(screen_manifest, manifest, base)
        await asyncio.to_thread(screen_folder, repo, manifest, base)
        blocks_left = record.start.deadline_block - self.view.block
        seconds = CHECKED_SHARE * blocks_left * await self.gateway.block_seconds()
        if seconds < FEWEST_CHECK_SECONDS:
            return
        try:
            await check_repo(repo, manifest, base, self.executor, seconds=seconds)
        except JobFailed as error:
            log.warning("repo_unchecked", task=record.task_id, code=error.code, problem=str(error))

    async def _commit(self, record: Record) -> None:
        """Write the root over all open submissions on chain, while it still counts. Raises SubmissionLate when it does not."""
        deadline = record.start.deadline_block
        async with self.committing:
            # One that was sent before a crash or a silence may be news, and holds other tasks too.
            standing = (await self.gateway.commitments()).get(self.gateway.hotkey)
            for other in self.journal.all():
                if standing is not None and other.leaves and standing.payload == _root(other.leaves):
                    self._note_root(other.leaves, standing.block)
            in_time = self.view.block < deadline
            block = await self._send_root(record) if in_time else await self._block_of_sent_root(record)
            if block > deadline:
                raise SubmissionLate(f"The commitment stands in block {block}, and block {deadline} was the last")
            self.journal.change(record.task_id, committed_at_block=block)
        log.info("submission_committed", task=record.task_id, block=block)

    async def _send_root(self, record: Record) -> int:
        """The block in which the root over all open submissions stands. What is under it is written down first: a crash may follow.

        A block after this task's deadline may be in time for others: the root is theirs now, whatever becomes of this task.
        """
        held = openings(
            self.journal.all(), netuid=self.gateway.netuid, hotkey=self.gateway.hotkey, block=self.view.block
        )
        leaves = tuple(opening.leaf().hex() for opening in held.values())
        self.journal.change(record.task_id, leaves=leaves)
        block = await self.gateway.commit(_root(leaves))
        self._note_root(leaves, block)
        return block

    async def _block_of_sent_root(self, record: Record) -> int:
        """The block in which the root that was sent before a crash has stood since before the deadline."""
        deadline = record.start.deadline_block
        standing = (await self.gateway.commitments(block=deadline)).get(self.gateway.hotkey)
        if standing is None or not record.leaves or standing.payload != _root(record.leaves):
            raise SubmissionLate(f"The commitment did not make it before block {deadline}")
        return standing.block

    def _note_root(self, under: tuple[str, ...], block: int) -> None:
        """The new root replaces the old one for every task whose deadline is still to come; proofs are made from it later."""
        held = openings(self.journal.all(), netuid=self.gateway.netuid, hotkey=self.gateway.hotkey, block=block)
        for task_id, opening in held.items():
            if opening.leaf().hex() in under and block <= self._record(task_id).start.deadline_block:
                self.journal.change(task_id, leaves=under)

    def _record(self, task_id: str) -> Record:
        record = self.journal.find(task_id)
        if record is None:
            raise LedgerConflict(f"Task {task_id} is not in the journal")
        return record


def _root(leaves: Sequence[str]) -> bytes:
    """What a commitment over these leaves (hex) says."""
    return payload([bytes.fromhex(leaf) for leaf in leaves])
