"""What a validator tells miners of a task. A miner commits to the digest of it together with its model, before anybody can know who wins.

So whoever changes the terms in the record afterwards, be it an hour, a parameter or a block, contradicts what stands on chain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import cast

from gradients.axon.messages import BlobName, Offer, Reveal, Start
from gradients.domain.json import JsonObject, canonical
from gradients.domain.task import Blob, Prepared, Task, TaskId, TaskRequest, TaskState, Window
from gradients.errors import MinerError
from gradients.record.models import EntrantPart, TaskBody
from gradients.repo.manifest import Manifest, RepoFile, parse_manifest
from gradients.tasks.registry import needs_sandbox, public_parameters


def offer_of(task: Task) -> Offer:
    """What every miner is asked."""
    prepared = task.data
    return Offer(
        task_id=task.id,
        type=task.request.type,
        base=task.request.base,
        base_digest=prepared.base_digest,
        base_parameters=prepared.base_parameters,
        train_rows=prepared.train_rows,
        hours=task.request.hours,
        needs_sandbox=needs_sandbox(task.request),
    )


def start_of(task: Task, miner_seed: int) -> Start:
    """What a drawn miner is told."""
    prepared, window = task.data, task.blocks
    return Start.model_validate(
        {
            "offer": offer_of(task),
            "parameters": public_parameters(task.request),
            "train": BlobName(sha256=prepared.train.sha256, size_bytes=prepared.train.size_bytes),
            "held_out_commitment": prepared.held_out_commitment,
            "started_at_block": window.started_at_block,
            "deadline_block": window.deadline_block,
            "reveal_until_block": window.reveal_until_block,
            "draw_sha256": hashlib.sha256(canonical(task.draw)).hexdigest(),
            "seed": miner_seed,
        }
    )


def task_in(body: TaskBody) -> Task:
    """The task that a record speaks of, as far as it says; what was removed in preparing is not told."""
    data, blocks = body.data, body.blocks
    return Task(
        id=TaskId(body.task_id),
        request=TaskRequest(
            type=body.request.type,
            base=body.request.base,
            dataset=cast(JsonObject, body.request.dataset or {}),
            parameters=cast(JsonObject, body.request.parameters),
            hours=body.request.hours,
            private=body.request.private,
        ),
        state=TaskState.SCORED,
        created_at=0.0,
        prepared=Prepared(
            base_digest=data.base_digest,
            base_parameters=data.base_parameters,
            train=Blob(data.train.sha256, data.train.size_bytes),
            held_out=Blob(data.held_out.sha256, data.held_out.size_bytes),
            train_rows=data.train_rows,
            held_out_rows=data.held_out_rows,
            held_out_commitment=data.held_out_commitment,
            removed=(),
            made_up_rows=data.made_up_rows,
        ),
        window=Window(blocks.started_at_block, blocks.deadline_block, blocks.reveal_until_block),
        draw=cast(JsonObject | None, body.draw),
    )


def reveal_in(entrant: EntrantPart) -> Reveal | None:
    """What a miner has revealed by its signed answer; None without one. Raises ValueError for an answer that is not a reveal."""
    return Reveal.model_validate_json(entrant.commitment.answer.body) if entrant.commitment else None


def manifest_in(entrant: EntrantPart) -> Manifest | None:
    """The manifest of a submission; None without a reveal, and for one that cannot be read."""
    try:
        reveal = reveal_in(entrant)
        return parse_manifest(reveal.manifest) if reveal else None
    except (MinerError, ValueError):
        return None


def files_of(entrant: EntrantPart) -> Mapping[str, RepoFile]:
    """The model files of a submission that was measured, by name."""
    manifest = manifest_in(entrant) if entrant.measurement else None
    return manifest.files if manifest else {}
