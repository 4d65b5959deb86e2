"""One task, from its start to a committed repo, as steps that can be run again: fetch, train, describe, commit.

Each step looks first whether its result is there. A crash at any moment is followed by the same steps; training goes on from its last
checkpoint. A miner that cannot commit before the deadline does not commit at all.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gradients.axon.client import AxonClient, Peer
from gradients.chain.gateway import ChainGateway
from gradients.chain.view import ChainView
from gradients.clock import Clock
from gradients.domain.commitment import payload
from gradients.domain.json import JsonObject
from gradients.errors import (
    DatasetInvalid,
    GradientsError,
    LedgerConflict,
    OutsideError,
    PeerUnreachable,
    SubmissionLate,
)
from gradients.execution.job import Executor, Job
from gradients.log import get_logger
from gradients.repo.bases import BaseModels
from gradients.repo.manifest import TrainingSummary, describe_folder
from gradients.tasks.jobs import TrainJob, TrainResult
from gradients.tasks.registry import task_type
from miner.journal import Journal, Record, openings
from miner.plan import Recipe, make_plan, seconds_to_train
from miner.settings import MinerSettings

FETCH_TRIES = 20
REST_SECONDS = 2.0
REPO = "repo"

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
    settings: MinerSettings
    clock: Clock
    tell: Tell
    committing: asyncio.Lock  # one slot on chain for all tasks

    async def run(self, task_id: str) -> None:
        """Bring a task to its end: committed, or failed with the reason in the journal."""
        try:
            await self._run(task_id)
        except GradientsError as error:
            log.warning("task_failed", task=task_id, code=error.code, problem=str(error))
            self.journal.change(task_id, failure=f"{error.code}: {error}"[:500])

    async def _run(self, task_id: str) -> None:
        record = self._record(task_id)
        if record.phase == "training":
            train_file = await self._fetch(record)
            result = await self._train(record, train_file)
            record = await self._describe(record, result)
        if record.phase == "trained":
            await self._commit(record)

    async def _fetch(self, record: Record) -> Path:
        """The train rows, whole and by their digest."""
        blob = record.start.train
        file = self.journal.folder(record.task_id) / "train.jsonl"
        for tries_left in reversed(range(FETCH_TRIES)):
            if file.is_file():
                return file
            try:
                await self._download(record.validator, blob.sha256, blob.size_bytes, file)
            except OutsideError:
                if not tries_left:
                    raise
                await self.clock.sleep(REST_SECONDS)
        return file

    async def _download(self, validator: str, sha256: str, size_bytes: int, file: Path) -> None:
        neuron = self.view.metagraph().by_hotkey(validator)
        if neuron is None or neuron.axon is None:
            raise PeerUnreachable(f"The validator {validator} serves no axon")
        part, digest, got = file.with_suffix(".part"), hashlib.sha256(), 0
        async with self.client.stream(Peer(neuron.hotkey, neuron.axon), f"/v1/data/{sha256}") as chunks:
            with part.open("wb") as stream:
                async for chunk in chunks:
                    got += len(chunk)
                    if got > size_bytes:
                        break
                    digest.update(chunk)
                    stream.write(chunk)
                stream.flush()
                os.fsync(stream.fileno())
        if got != size_bytes or digest.hexdigest() != sha256:
            raise PeerUnreachable(f"The train rows arrived as {got:,} bytes that are not the announced ones")
        part.replace(file)

    async def _train(self, record: Record, train_file: Path) -> TrainResult:
        """The trained model in the task's repo folder."""
        start, folder = record.start, self.journal.folder(record.task_id)
        until = await self._train_until(record)
        base = await asyncio.to_thread(self.bases.resolve, start.offer.base)
        if base.digest != start.offer.base_digest:
            raise DatasetInvalid(f"The base {start.offer.base} is another one here", code="base_mismatch")
        arguments = TrainJob(
            base_folder=base.folder,
            train_file=train_file,
            parameters=start.parameters,
            plan=make_plan(self.recipe, base_parameters=base.parameters),
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
        result = await self.executor.run(job, report=lambda progress: self.tell(record.task_id, progress))
        return TrainResult.model_validate(result)

    async def _train_until(self, record: Record) -> float:
        """The moment when training must be done. Raises SubmissionLate when there is no time left to begin."""
        if record.train_until is None:
            left = seconds_to_train(
                block=self.view.block,
                deadline_block=record.start.deadline_block,
                block_seconds=await self.gateway.block_seconds(),
                keep_seconds=self.settings.keep_seconds,
            )
            if left <= 0:
                raise SubmissionLate(f"No time is left before block {record.start.deadline_block}")
            record = self.journal.change(record.task_id, train_until=self.clock.now() + left)
        assert record.train_until is not None  # noqa: S101 (for the type checker: written just now)
        return record.train_until

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
        )
        return self.journal.change(record.task_id, manifest=manifest.text())

    async def _commit(self, record: Record) -> None:
        """Write the root over all open submissions on chain, while it still counts."""
        async with self.committing:
            while self.view.block < record.start.deadline_block:
                held = openings(
                    self.journal.all(), netuid=self.gateway.netuid, hotkey=self.gateway.hotkey, block=self.view.block
                )
                leaves = {task_id: opening.leaf() for task_id, opening in held.items()}
                try:
                    block = await self.gateway.commit(payload(list(leaves.values())))
                except OutsideError as error:
                    log.warning("commitment_failed", task=record.task_id, code=error.code, problem=str(error))
                    await self.clock.sleep(REST_SECONDS)
                    continue
                self._note_root(leaves, block)
                self.journal.change(record.task_id, committed_at_block=block)
                log.info("submission_committed", task=record.task_id, block=block)
                return
        raise SubmissionLate(f"The commitment did not make it before block {record.start.deadline_block}")

    def _note_root(self, leaves: Mapping[str, bytes], block: int) -> None:
        """The new root replaces the old one for every task whose deadline is still to come; proofs are made from it later."""
        under = tuple(leaf.hex() for leaf in leaves.values())
        for task_id in leaves:
            if block <= self._record(task_id).start.deadline_block:
                self.journal.change(task_id, leaves=under)

    def _record(self, task_id: str) -> Record:
        record = self.journal.find(task_id)
        if record is None:
            raise LedgerConflict(f"Task {task_id} is not in the journal")
        return record
