"""A customers' API in a process of its own, to be killed: python -m tests.fault.uploading_api FOLDER PORT."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from gradients.axon.serve import serving
from gradients.bases.bases import BaseModels
from gradients.clock import SystemClock
from gradients.conditions.state import Conditions
from tests.e2e.api_market import dependencies_of
from validator.api.app import api_app
from validator.api.uploads import Uploads
from validator.folders import Folders
from validator.ledger import Ledger

HOST, MOST_BYTES = "127.0.0.2", 1 << 30


async def serve(folder: Path, port: int) -> None:
    """Until it is ended; says so when it listens."""
    ledger = Ledger.open(f"sqlite:///{folder}/ledger.db", SystemClock())
    behind = dependencies_of(ledger, folder, BaseModels.default(), [], Conditions())
    uploads = Uploads(Folders(folder).uploads, ledger.uploads, MOST_BYTES, 4 * MOST_BYTES)
    async with serving(api_app(replace(behind, uploads=uploads)), HOST, port):
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
