"""A validator's emission on a chain in memory, looked at block by block."""

from __future__ import annotations

from collections.abc import Sequence

from gradients.testing.fake_chain import FakeChain
from tests.unit.validator.market import Subnet
from validator.ledger import Ledger
from validator.pay.emission import Emission

TEMPO = 20


class Emitting:
    """The owner has uid 0, the validator 1, miners those from 2 on; epochs are 20 blocks."""

    miners: Sequence[str]
    ledger: Ledger
    subnet: Subnet
    emission: Emission

    @property
    def chain(self) -> FakeChain:
        return self.subnet.chain

    async def start(self) -> None:
        await self.subnet.start()
        for miner in self.miners:
            await self.chain.gateway(miner).register()
        await self.subnet.reach(TEMPO + 5)

    async def step(self) -> None:
        """One look at the newest block."""
        await self.subnet.view.start()
        await self.emission.step()

    async def blocks(self, count: int) -> None:
        """So many blocks, each looked at."""
        for _ in range(count):
            await self.chain.advance()
            await self.step()
