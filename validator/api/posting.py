"""Posting a task once, however often a customer asks: the IETF's Idempotency-Key (draft-ietf-httpapi-idempotency-key-header-07).

Covers: the same key with the same body within a day is answered as the first time, also where both come at the same moment and where the
validator was killed in between; the key with another body is refused. Refusals are not kept: what was refused has made nothing.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple, cast

from sqlalchemy.orm import Session

from gradients.client.models import PostedSpec, TaskSummary
from gradients.domain.json import JsonObject, canonical
from gradients.domain.task import TaskId
from gradients.errors import CustomerError, LedgerConflict
from validator.api.dependencies import Dependencies
from validator.ledger.idempotency import Answered
from validator.ledger.tasks import Also


class IdempotencyKeyReused(CustomerError):
    """A key under which this customer has posted something else."""

    default_code = "idempotency_key_reused"


class Posted(NamedTuple):
    """The answer to a posted task."""

    task: TaskSummary
    repeated: bool  # it was posted by an earlier request


def post(spec: PostedSpec, behind: Dependencies, customer: str, *, key: str | None = None) -> Posted:
    """Post the task, or find what was posted under the same key. Blocking. Raises IdempotencyKeyReused, and what intake raises."""
    digest = body_digest(spec)
    if key is not None and (before := _posted_before(behind, customer, key, digest)):
        return before
    resolved = behind.uploads.resolve(spec.model_dump(), customer=customer)
    fits = behind.ledger.tasks.at_most(behind.quotas.running_tasks, customer)

    def also(task_id: TaskId) -> Also:
        if key is None:
            return fits
        keep = behind.ledger.idempotency.keep(customer, key, Answered(task_id, digest))

        def both(session: Session) -> None:
            keep(session)  # first: one that was posted before is no task too many
            fits(session)

        return both

    try:
        task = behind.intake.submit(resolved, customer=customer, also=also)
    except LedgerConflict:
        if key is not None and (before := _posted_before(behind, customer, key, digest)):
            return before
        raise
    return Posted(behind.board.summary(task), repeated=False)


def body_digest(spec: PostedSpec) -> str:
    """What makes two requests the same, however their JSON is written."""
    return hashlib.sha256(canonical(cast(JsonObject, spec.model_dump(mode="json")))).hexdigest()


def _posted_before(behind: Dependencies, customer: str, key: str, digest: str) -> Posted | None:
    known = behind.ledger.idempotency.find(customer, key)
    task = behind.ledger.tasks.find(known.task_id) if known else None
    if known is None or task is None:
        return None
    if known.body_sha256 != digest:
        raise IdempotencyKeyReused(
            f"This idempotency key has posted {task.id}, which was asked for in other words",
            fix="Make a new key for each task, and keep it for repeating the same request only",
        )
    return Posted(behind.board.as_posted(task), repeated=True)
