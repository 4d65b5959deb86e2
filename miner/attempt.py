"""One task, from its start to a committed repo, as steps that can be run again: fetch, train, describe, commit.

Each step looks first whether its result is there. A crash at any moment is followed by the same steps; training goes on from its last
checkpoint (trainings.py). What the network, the chain or a full disk stops is tried again until the deadline. A miner that cannot commit
before the deadline does not commit at all.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gradients.axon.client import AxonClient, Peer
from gradients.chain.gateway import ChainGateway
from gradients.chain.view import ChainView
from gradients.client.repo_check import check_repo
from gradients.clock import Clock
from gradients.domain.commitment import payload
from gradients.errors import (
    DiskFull,
    GradientsError,
    JobFailed,
    LedgerConflict,
    OperatorError,
    OutsideError,
    PeerUnreachable,
    SubmissionLate,
)
from gradients.files.disk import writing
from gradients.files.whole import whole_file
from gradients.log import get_logger
from gradients.monitoring.tracing import span
from gradients.repo.manifest import Manifest, TrainingSummary, describe_folder
from gradients.repo.screening import screen_folder, screen_manifest
from gradients.tasks.jobs.training import TrainResult
from miner.journal import REPO, Journal, Record, openings
from miner.metrics import FAILURES
from miner.plan import seconds_to_train
from miner.trainings import ROWS, Trainings

REST_SECONDS = 2.0
CHECKED_SHARE = 0.25  # of what is left after training, for looking at the repo once more
FEWEST_CHECK_SECONDS = 20.0  # with less, only the files are screened
NO_TIME = frozenset({"submission_late", "budget_too_short"})  # what an earlier trouble ends in: that is the cause

log = get_logger("attempt")


@dataclass(frozen=True, slots=True)
class Attempts:
    """Runs tasks."""

    trainings: Trainings
    gateway: ChainGateway
    view: ChainView
    client: AxonClient
    committing: asyncio.Lock  # one slot on chain for all tasks

    @property
    def journal(self) -> Journal:
        """Where tasks are written down."""
        return self.trainings.journal

    @property
    def clock(self) -> Clock:
        """The time, and pauses."""
        return self.trainings.clock

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
        """The trained model in the task's repo folder. When training must be done is settled at its first start."""
        if record.train_until is None:
            until = self.clock.now() + await self._seconds_left(record)
            record = self.journal.change(record.task_id, train_until=until)
        return await self.trainings.run(record)

    async def _seconds_left(self, record: Record) -> float:
        """How long training may take from now. Raises SubmissionLate when there is no time."""
        left = seconds_to_train(
            block=self.view.block,
            deadline_block=record.start.deadline_block,
            block_seconds=await self.gateway.block_seconds(),
            keep_seconds=self.trainings.settings.keep_seconds,
        )
        if left <= 0:
            raise SubmissionLate(f"No time is left before block {record.start.deadline_block}")
        return left

    async def _describe(self, record: Record, result: TrainResult) -> Record:
        """Write the manifest of the finished repo into the journal."""
        summary = TrainingSummary(
            recipe=self.trainings.recipe.name,
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
        base = await asyncio.to_thread(self.trainings.bases.resolve, record.base)
        repo = self.journal.folder(record.task_id) / REPO
        await asyncio.to_thread(screen_manifest, manifest, base)
        await asyncio.to_thread(screen_folder, repo, manifest, base)
        blocks_left = record.start.deadline_block - self.view.block
        seconds = CHECKED_SHARE * blocks_left * await self.gateway.block_seconds()
        if seconds < FEWEST_CHECK_SECONDS:
            return
        try:
            await check_repo(repo, manifest, base, self.trainings.executor, seconds=seconds)
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
