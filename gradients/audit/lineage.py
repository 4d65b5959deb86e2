"""Where the base of a task comes from that continues another: the chain of digests, from task to task.

Covers: that the base is what the listed files hash to, that it is called after the task which the record names, and that this task, in the
same record, was won by that manifest on that base, by the same customer. Does not cover: that the files are the winner merged with its
base, which nobody computes again here; whoever has both can, by `gradients/ml/continuing.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from gradients.audit.report import Checks
from gradients.bases.bases import digest_of
from gradients.bases.continued import continued_task
from gradients.record.models import TaskBody
from gradients.record.terms import reveal_in


@dataclass(frozen=True, slots=True)
class Won:
    """What a task leaves that others may go on from."""

    winners: Mapping[str, str]  # hotkey -> sha256 of its manifest
    base_digest: str
    customer: str
    private: bool


def won(body: TaskBody) -> Won:
    """What can be gone on from after a task. Raises ValueError for a reveal that is none."""
    best = {placing.hotkey for placing in body.placings if placing.rank == 1}
    winners = dict[str, str]()
    for entrant in body.entrants:
        reveal = reveal_in(entrant) if entrant.entrant in best else None
        if reveal is not None:
            winners[entrant.entrant] = hashlib.sha256(reveal.manifest.encode()).hexdigest()
    return Won(winners, body.data.base_digest, body.customer, body.request.private)


def check_lineage(body: TaskBody, before: Mapping[str, Won], checks: Checks) -> None:
    """Compare where the base comes from with what was recorded before, by task."""
    parent, path = body.data.parent, "body.data.parent"
    checks.equal(f"{path}.task_id", parent.task_id if parent else None, continued_task(body.request.base))
    if parent is None:
        return
    fits = digest_of(parent.files) == body.data.base_digest
    checks.holds(f"{path}.files", fits, body.data.base_digest, "the digest over the base's files")
    known = before.get(parent.task_id)
    if known is None:
        checks.note(f"task {parent.task_id}, from which this one goes on, is not in the record before it")
        return
    if checks.holds(f"{path}.hotkey", parent.hotkey in known.winners, parent.hotkey, "who won that task"):
        checks.equal(f"{path}.manifest_sha256", parent.manifest_sha256, known.winners[parent.hotkey])
    checks.equal(f"{path}.base_digest", parent.base_digest, known.base_digest)
    checks.equal("body.customer", body.customer, known.customer)
    may = body.request.private or not known.private
    checks.holds("body.request.private", may, body.request.private, "nothing public goes on from something private")
