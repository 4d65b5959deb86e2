"""DRAFT -> OPEN: load, clean, deduplicate and split the rows; publish the train rows by digest; bind the held-out rows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from gradients.domain.task import TaskState
from gradients.repo.bases import BaseModels
from gradients.repo.store import ContentStore
from validator.ledger import Ledger
from validator.ledger.lease import Claim


@dataclass(frozen=True, slots=True)
class PrepareStage:
    """Runs once per task; running again with the same salt leaves the same bytes."""

    ledger: Ledger
    bases: BaseModels
    store: ContentStore
    folder: Path

    async def run(self, claim: Claim) -> None:
        """Prepare the task's data in a thread. Raises CustomerError for data or a base that cannot be used."""
        prepared = await asyncio.to_thread(self._prepare, claim)
        await asyncio.to_thread(
            self.ledger.tasks.advance, claim.lease, came_from=TaskState.DRAFT, to=TaskState.OPEN, prepared=prepared
        )
