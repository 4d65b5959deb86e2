"""A miner's process for the benchmark of deadlines: the real attempt, worker and journal, on a chain whose blocks are seconds.

usage: python -m scripts.benchmarks.deadline_miner FOLDER RECIPE. The folder holds the journal, the chain's commitments and when it began.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from gradients.axon.client import AxonClient
from gradients.bases.bases import BaseModels
from gradients.chain.view import ChainView
from gradients.chain.wallet import open_wallet
from gradients.clock import SystemClock
from gradients.config import shipped_configs
from gradients.domain.chain import Commitment, Metagraph
from gradients.domain.task import Hotkey
from gradients.execution.process import ProcessExecutor
from gradients.files.whole import write_text
from gradients.testing.fake_chain import FakeChain
from miner.attempt import Attempts
from miner.journal import Journal
from miner.memory import installed_memory
from miner.plan import read_recipe
from miner.settings import MinerSettings
from miner.trainings import Trainings

WALLET = ("//Miner", "//Miner//hot")


class SecondsChain(FakeChain):
    """A chain with a block a second, whose commitments outlive the process."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "commitments.json"
        self._origin = float((folder / "origin").read_text())
        super().__init__()
        if self._file.exists():
            told = json.loads(self._file.read_text())
            self.committed = [Commitment(Hotkey(who), bytes.fromhex(said), block) for who, said, block in told]

    @property
    def graph(self) -> Metagraph:
        """The subnet now."""
        return replace(self._graph, block=int(time.time() - self._origin))

    async def include(self, transaction: object) -> int:
        """In the block that is being made."""
        assert callable(transaction)  # noqa: S101 (the type checker's)
        transaction()
        return self.graph.block

    def commit(self, hotkey: Hotkey, payload: bytes) -> None:
        """Write a commitment into the block that is being made."""
        self.committed.append(Commitment(hotkey, payload, self.graph.block))
        told = [(each.hotkey, each.payload.hex(), each.block) for each in self.committed]
        write_text(self._file, json.dumps(told))

    async def next_block(self, after: int) -> int:
        """Sleep until a later block stands."""
        await asyncio.sleep(max(self._origin + after + 1 - time.time(), 0.0))
        return self.graph.block


async def mine(folder: Path, recipe: str) -> None:
    """Do what the journal says was begun."""
    keys = open_wallet(*WALLET)
    chain, clock, settings = SecondsChain(folder), SystemClock(), MinerSettings()
    hotkey = Hotkey(keys.hotkey.ss58_address)
    chain.seat(hotkey, coldkey="cold")
    gateway = chain.gateway(hotkey)
    view, journal = ChainView(gateway, clock, refresh_seconds=1e9), Journal(folder / "tasks")
    attempts = Attempts(
        Trainings(
            journal=journal,
            executor=ProcessExecutor(),
            bases=BaseModels.default(folder / "caches"),
            recipe=read_recipe(shipped_configs() / "recipes" / f"{recipe}.toml"),
            memory=installed_memory(None),
            settings=settings,
            clock=clock,
            tell=lambda _task, _progress: None,
        ),
        gateway=gateway,
        view=view,
        client=AxonClient(keys.hotkey, allow_private=True),
        committing=asyncio.Lock(),
    )
    await view.start()
    following = asyncio.create_task(view.follow())
    for record in journal.all():
        if record.phase in ("training", "trained"):
            await attempts.run(record.task_id)
    following.cancel()
    await attempts.client.close()


def main() -> NoReturn:
    """Run until all is done."""
    asyncio.run(mine(Path(sys.argv[1]), sys.argv[2]))
    sys.exit(0)


if __name__ == "__main__":
    main()
