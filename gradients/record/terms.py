"""What a validator tells miners of a task. A miner commits to the digest of it together with its model, before anybody can know who wins.

So whoever changes the terms in the record afterwards, be it an hour, a parameter or a block, contradicts what stands on chain.
"""

from __future__ import annotations

from gradients.axon.messages import BlobName, Offer, Start
from gradients.domain.task import Task
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
            "seed": miner_seed,
        }
    )
