"""From a customer's spec to a task: checked against the type's schema, its base looked up, then written down.

Only what is known in seconds is checked here. The base is fetched, and the data read, when the task is prepared.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gradients.bases.bases import BaseInfo, BaseModels
from gradients.domain.json import Json
from gradients.domain.task import Task, TaskId
from gradients.log import get_logger
from gradients.tasks.registry import check_family, task_type, validate_request
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.tasks import Also
from validator.specs.continuing import base_of, winner_before

log = get_logger("intake")


@dataclass(frozen=True, slots=True)
class Intake:
    """Accepts tasks. Blocking: a hub may be asked whether it has the base."""

    ledger: Ledger
    bases: BaseModels
    folders: Folders
    posted: Callable[[], None]  # called when there is a new task
    seed: int | None = None  # set on local networks only, for runs that can be repeated

    def submit(self, spec: Mapping[str, Json], *, customer: str, also: Callable[[TaskId], Also] | None = None) -> Task:
        """The new task in DRAFT, written in one transaction with `also`.

        Raises CustomerError when it cannot be run as asked for, and OutsideError when the base's hub does not answer.
        """
        request = validate_request(spec)
        if winner_before(self.ledger, self.folders, request, customer=customer) is None:
            check_family(task_type(request.type), request.base, self.bases.look(request.base))
        task_id = TaskId(f"{request.type}-{secrets.token_hex(6)}")
        salt = secrets.token_bytes(32)
        if self.seed is not None:  # the same for the n-th task of every run
            salt = hashlib.sha256(f"{self.seed}/{self.ledger.tasks.count()}".encode()).digest()
        task = self.ledger.tasks.create(
            task_id, request, customer=customer, salt=salt, also=also(task_id) if also else None
        )
        log.info("task_created", task=task.id, type=request.type, base=request.base, hours=request.hours)
        self.posted()
        return task

    def stand_in(self, spec: Mapping[str, Json], *, customer: str) -> BaseInfo | None:
        """In place of the base of a task that would continue another, which is not made yet: that one's own, as large and read alike.

        None for a spec that names a base. Raises as `submit` does.
        """
        winner = winner_before(self.ledger, self.folders, validate_request(spec), customer=customer)
        return base_of(winner.task, self.bases, self.folders) if winner else None
