"""A validator's API in a process of its own: python -m tests.security.bombed_api FOLDER. It says URL and key, and serves until killed."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import cast

from gradients.axon.serve import serving
from gradients.bases.bases import BaseModels
from gradients.clock import SystemClock
from gradients.conditions.state import Conditions
from gradients.datasets.access import Access
from gradients.execution.inline import InlineExecutor
from gradients.execution.process import ProcessExecutor
from gradients.repo.store import ContentStore
from gradients.sandbox.trial import worker_refusal
from validator.api.app import api_app
from validator.api.dependencies import Dependencies
from validator.api.uploads import Uploads
from validator.board import Board
from validator.folders import Folders
from validator.ledger import Ledger
from validator.progress import ProgressBoard
from validator.settings import EstimateSettings
from validator.specs.estimates import Estimates
from validator.specs.intake import Intake
from validator.specs.rewards import RewardTrials

MOST_BYTES = 2 * 1024**3


async def serve(root: Path) -> None:
    """Serve estimates with real workers; nothing else of the validator runs."""
    ledger, folders, bases = (
        Ledger.open(f"sqlite:///{root}/ledger.db", SystemClock()),
        Folders(root),
        BaseModels.default(root / "cache"),
    )
    workers = ProcessExecutor(sandboxed=worker_refusal() is None)
    app = api_app(
        Dependencies(
            ledger=ledger,
            board=Board(ledger, cast(ProgressBoard, None)),  # no task runs here that anybody could ask about
            intake=Intake(ledger, bases, folders, lambda: None),
            uploads=Uploads(folders.uploads, ledger.uploads, MOST_BYTES, 4 * MOST_BYTES),
            estimates=Estimates(bases, workers, Access(), EstimateSettings()),
            rewards=RewardTrials(InlineExecutor()),
            folders=folders,
            store=ContentStore(folders.blobs),
            conditions=Conditions(),
        )
    )
    async with serving(app, "127.0.0.1", 0) as address:
        print(json.dumps({"url": address.url(), "key": ledger.customers.issue("bomber")}), flush=True)  # noqa: T201 (who started it reads it)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
