"""One record of a real market for all tests of the auditor."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gradients.bases.bases import BaseModels
from gradients.domain.seasons import SEASON_BLOCKS
from gradients.record.models import Record
from gradients.testing.fake_chain import FakeGateway
from tests.unit.audit.real_market import RealMarket, task_id

TASKS = 3


@dataclass(frozen=True, slots=True)
class Published:
    """What a validator has published, and what there is to compare it with."""

    records: tuple[Record, ...]
    blobs: Path
    keypair: Any  # the validator's: bittensor's Keypair carries no types
    gateway: FakeGateway
    bases: BaseModels


class NextSeason(FakeGateway):
    """A gateway that sees the chain when the season of its tasks is over."""

    async def block(self) -> int:
        return SEASON_BLOCKS


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    market = RealMarket(tmp_path_factory.mktemp("market"))

    async def scenario() -> None:
        await market.play(TASKS - 1)
        await market.play(1, continues=task_id(0))
        late = NextSeason(market.subnet.chain, market.subnet.gateway.hotkey, 0.0)
        assert await replace(market.recorder, gateway=late).catch_up() == 1
        await market.client.close()

    asyncio.run(scenario())
    page = market.ledger.records.page(after=0, limit=100, most_bytes=10**9)
    records = tuple(Record.model_validate_json(content) for content in page.contents)
    yield Published(records, market.store.root, market.subnet.keypair, market.subnet.gateway, market.bases)
    market.ledger.engine.dispose()
