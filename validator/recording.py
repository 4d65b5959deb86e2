"""Writes the public record: one link for each scored task, and one for each epoch's weights once they stand on chain.

It catches up with the ledger, whatever was missed: a link is written once per task or epoch, so a crash costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from pydantic import JsonValue

from gradients.axon.messages import BlobName
from gradients.chain.gateway import ChainGateway
from gradients.clock import Clock
from gradients.domain.evaluation import Measurement
from gradients.domain.json import Json
from gradients.domain.seasons import season_of
from gradients.domain.seeds import seed
from gradients.domain.submission import BASE_ENTRANT, Submission
from gradients.domain.task import Blob, Parent, Prepared, Task, TaskRequest
from gradients.errors import LedgerConflict
from gradients.log import get_logger
from gradients.record.models import (
    AnswerPart,
    BlocksPart,
    CommitmentPart,
    DataPart,
    EntrantPart,
    FingerprintPart,
    Kind,
    MeasurementPart,
    MetricPart,
    ParentPart,
    Part,
    PlacingPart,
    RequestPart,
    SeasonBody,
    TaskBody,
    WeightsBody,
)
from gradients.record.sealing import sealed
from gradients.record.terms import files_of
from gradients.record.versions import versions
from gradients.scoring.contest import SCHEDULED
from gradients.scoring.rules import rules_at
from gradients.tasks.registry import public_parameters, task_type
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.records import Evidence, Landed
from validator.loops import run_forever
from validator.measuring.sketches import SketchSecret
from validator.pay.contests import NOT_MEASURED
from validator.pay.emission import KEY_PREFIX

LOOK_SECONDS = 5.0

log = get_logger("recording")


@dataclass(frozen=True, slots=True)
class Recorder:
    """Keeps the chain of records up with the ledger."""

    ledger: Ledger
    gateway: ChainGateway
    keypair: Any  # bittensor's Keypair carries no types
    folders: Folders
    clock: Clock
    versions: Mapping[str, str] = field(default_factory=versions)

    async def run(self) -> None:
        """Look for something to record, for ever."""

        async def look() -> None:
            await self.catch_up()
            await self.clock.sleep(LOOK_SECONDS)

        await run_forever(look, name="recording", rest_seconds=LOOK_SECONDS)

    async def catch_up(self) -> int:
        """Record what is not recorded; how many links are new.

        Weights stand behind the tasks that went into them and before those that came later, also when both were missed.
        """
        records, count = self.ledger.records, 0
        waiting = await asyncio.to_thread(records.unrecorded_tasks)
        for landed in await asyncio.to_thread(records.unrecorded_weights):
            went_in = [task_id for task_id in waiting if task_id in landed.payload["tasks"]]
            count += await self._tasks(went_in)
            waiting = [task_id for task_id in waiting if task_id not in went_in]
            weights = await asyncio.to_thread(self._weights, landed)
            count += await asyncio.to_thread(self._append, "weights", landed.key, weights)
        return count + await self._tasks(waiting) + await self._seasons()

    async def _tasks(self, task_ids: Sequence[str]) -> int:
        count = 0
        for task_id in task_ids:
            body = await self._task(task_id)
            count += await asyncio.to_thread(self._append, "task", task_id, body)
        return count

    async def _seasons(self) -> int:
        """Open the secrets of the seasons that are over, of those in which anything was recorded."""
        if not (seasons := await asyncio.to_thread(self.ledger.records.seasons)):
            return 0
        block, count = await self.gateway.block(), 0
        secret = await asyncio.to_thread(SketchSecret.kept_in, self.folders.sketch_secret)
        for season in seasons:
            if (opened := secret.opened(season, at_block=block)) is not None:
                body = SeasonBody(season=season, secret=opened)
                count += await asyncio.to_thread(self._append, "season", f"season:{season}", body)
        return count

    def _append(self, kind: Kind, subject: str, body: TaskBody | WeightsBody | SeasonBody) -> bool:
        def seal(seq: int, previous_sha256: str) -> Any:  # noqa: ANN401
            return sealed(self.keypair, seq=seq, kind=kind, previous_sha256=previous_sha256, body=body)

        is_new = self.ledger.records.append(subject, seal, opens=_opened(body))
        if is_new:
            log.info("recorded", kind=kind, subject=subject)
        return is_new

    async def _task(self, task_id: str) -> TaskBody:
        task = await asyncio.to_thread(self.ledger.tasks.find, task_id)
        if task is None:
            raise LedgerConflict(f"Task {task_id} is gone")
        evidence = await asyncio.to_thread(self.ledger.records.evidence, task_id)
        submissions = await asyncio.to_thread(self.ledger.submissions.of_task, task_id)
        blocks = {s.committed_at_block for s in submissions if s.committed_at_block is not None}
        hashes = {block: await self.gateway.block_hash(block) for block in sorted(blocks)}
        deadline_hash = evidence.deadline_hash or await self.gateway.block_hash(task.blocks.deadline_block)
        return await asyncio.to_thread(self._task_body, task, evidence, submissions, hashes, deadline_hash)

    def _task_body(
        self,
        task: Task,
        evidence: Evidence,
        submissions: list[Submission],
        hashes: Mapping[int, str],
        deadline_hash: str,
    ) -> TaskBody:
        request, data, blocks, private = task.request, task.data, task.blocks, task.request.private
        measurements = self.ledger.submissions.measurements(task.id)
        placings = sorted(self.ledger.placings.of_task(task.id), key=lambda placing: placing.hotkey)
        return TaskBody(
            netuid=self.gateway.netuid,
            task_id=task.id,
            customer=SCHEDULED if evidence.customer == SCHEDULED else evidence.first_task,
            request=_request(request),
            data=_data(data),
            salt=None if private else evidence.salt.hex(),
            blocks=BlocksPart(
                started_at_block=blocks.started_at_block,
                deadline_block=blocks.deadline_block,
                reveal_until_block=blocks.reveal_until_block,
                deadline_hash=deadline_hash,
            ),
            draw=evidence.draw,
            sketch_commitment=SketchSecret.kept_in(self.folders.sketch_secret).commitment(
                season_of(blocks.deadline_block)
            ),
            metric=MetricPart(**asdict(task_type(request.type).metric)),
            metric_seed=None if private else seed(evidence.salt, "measure", deadline_hash),
            entrants=(
                _base(measurements[BASE_ENTRANT]),
                *(
                    _entrant(submission, measurements.get(submission.hotkey), evidence, hashes)
                    for submission in sorted(submissions, key=lambda each: each.hotkey)
                ),
            ),
            rules_version=evidence.rules_version or rules_at(blocks.started_at_block).version,
            placings=tuple(
                PlacingPart(
                    hotkey=placing.hotkey,
                    rank=placing.rank,
                    points=placing.points,
                    adjusted_points=placing.adjusted_points,
                    gain=placing.gain,
                    copy_of=placing.copy_of,
                    fault=placing.fault,
                )
                for placing in placings
            ),
            versions=dict(self.versions),
        )

    def _weights(self, landed: Landed) -> WeightsBody:
        return WeightsBody(
            netuid=self.gateway.netuid,
            epoch_block=int(landed.key.removeprefix(KEY_PREFIX)),
            decided_at_block=landed.decided_at_block,
            rules_version=rules_at(landed.decided_at_block).version,
            tasks=tuple(landed.payload["tasks"]),
            shares=landed.payload["shares"],
            sent=landed.sent,
            landed_at_block=landed.receipt["block"],
        )


def _opened(body: Part) -> Iterator[str]:
    """Digests of what anybody may have once this is recorded."""
    if isinstance(body, TaskBody) and not body.request.private:
        yield from (body.data.train.sha256, body.data.held_out.sha256)
        if body.data.parent is not None:
            yield from body.data.parent.files.values()
        for entrant in body.entrants:
            yield from (file.sha256 for file in files_of(entrant).values())


def _named(blob: Blob) -> BlobName:
    return BlobName(sha256=blob.sha256, size_bytes=blob.size_bytes)


def _request(request: TaskRequest) -> RequestPart:
    """A private one as its miners were told it."""
    private = request.private
    parameters = public_parameters(request) if private else dict(request.parameters)
    return RequestPart(
        type=request.type,
        base=request.base,
        dataset=None if private else cast(dict[str, JsonValue], dict(request.dataset)),
        parameters=cast(dict[str, JsonValue], parameters),
        hours=request.hours,
        private=private,
    )


def _data(data: Prepared) -> DataPart:
    return DataPart(
        base_digest=data.base_digest,
        base_parameters=data.base_parameters,
        train=_named(data.train),
        held_out=_named(data.held_out),
        train_rows=data.train_rows,
        held_out_rows=data.held_out_rows,
        made_up_rows=data.made_up_rows,
        held_out_commitment=data.held_out_commitment,
        parent=_parent(data.parent) if data.parent else None,
    )


def _parent(parent: Parent) -> ParentPart:
    return ParentPart(
        task_id=parent.task_id,
        hotkey=parent.hotkey,
        manifest_sha256=parent.manifest_sha256,
        base_digest=parent.base_digest,
        files={path: blob.sha256 for path, blob in parent.files},
    )


def _base(measured: Measurement) -> EntrantPart:
    return EntrantPart(
        entrant=BASE_ENTRANT,
        start_seed=None,
        commitment=None,
        measurement=_measurement(measured),
        fault=None,
        code="",
    )


def _entrant(
    submission: Submission, measured: Measurement | None, evidence: Evidence, hashes: Mapping[int, str]
) -> EntrantPart:
    """A miner's part: what it committed, and its values or whose fault it is that there are none."""
    failure = submission.failure or NOT_MEASURED
    return EntrantPart(
        entrant=submission.hotkey,
        start_seed=seed(evidence.salt, "start", submission.hotkey),
        commitment=_commitment(submission, evidence.reveals.get(submission.hotkey), hashes),
        measurement=_measurement(measured) if measured else None,
        fault=None if measured else failure.blame,
        code="" if measured else failure.code,
    )


def _measurement(measured: Measurement) -> MeasurementPart:
    mark = measured.fingerprint
    return MeasurementPart(
        value=measured.value,
        stderr=measured.stderr,
        per_row=measured.per_row,
        fingerprint=FingerprintPart(update=mark.update, outputs=mark.outputs) if mark else None,
        rows_of=measured.rows_of,
    )


def _commitment(
    submission: Submission, reveal: Mapping[str, Json] | None, hashes: Mapping[int, str]
) -> CommitmentPart | None:
    block = submission.committed_at_block
    if reveal is None or block is None:
        return None
    return CommitmentPart(
        block=block,
        block_hash=hashes[block],
        extrinsic=submission.committed_extrinsic,
        payload=cast(str, reveal["payload"]),
        answer=AnswerPart.model_validate({name: value for name, value in reveal.items() if name != "payload"}),
    )
