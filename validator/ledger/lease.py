"""Leases with fencing tokens: who works on a task, and proof against a worker that slept through its time."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from gradients.domain.task import Task, TaskId
from gradients.errors import LeaseLost
from validator.ledger.rows import TaskRow


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to move one task on. `token` grows with every claim, so an old holder's writes match nothing."""

    task_id: TaskId
    owner: str
    token: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A leased task as it was when it was claimed."""

    task: Task
    salt: bytes
    lease: Lease
    attempts: int  # claims in this state so far, this one included, less those that outages ended
    outages: int = 0  # how many claims before this one an outage has ended, in a row
    outage_seconds: float = 0.0  # since the first of these ended
    looked_at_block: int | None = None  # as the last `postpone` of this state left it


def fenced(session: Session, lease: Lease) -> TaskRow:
    """The leased row, locked until the transaction ends. Raises LeaseLost when somebody else has claimed it since."""
    row = session.get(TaskRow, lease.task_id, with_for_update=True)
    if row is None or (row.lease_owner, row.lease_token) != (lease.owner, lease.token):
        raise LeaseLost(f"The lease on task {lease.task_id} (token {lease.token}) has passed to another owner")
    return row
