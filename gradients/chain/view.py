"""A daemon's own picture of the chain: the newest block and a metagraph of known age, followed in the background."""

from __future__ import annotations

import asyncio

from gradients.chain.gateway import ChainGateway
from gradients.clock import Clock
from gradients.config import ChainSettings
from gradients.domain.chain import Metagraph
from gradients.errors import ChainUnreachable, OutsideError
from gradients.log import get_logger

STALE_SECONDS = 600.0
_BY_DEFAULT = ChainSettings()

log = get_logger("chain_view")


class ChainView:
    """The newest block, pushed by heads, and the metagraph, read again when it is older than `refresh_seconds` or its epoch is over."""

    def __init__(
        self,
        gateway: ChainGateway,
        clock: Clock,
        *,
        refresh_seconds: float = _BY_DEFAULT.refresh_seconds,
        start_seconds: float = _BY_DEFAULT.start_seconds,
    ) -> None:
        self._gateway = gateway
        self._clock = clock
        self._refresh_seconds = refresh_seconds
        self._start_seconds = start_seconds
        self._metagraph: Metagraph | None = None
        self._read_at = 0.0
        self._head_at = 0.0
        self._moved = asyncio.Condition()
        self._reading = asyncio.Lock()
        self.block = 0
        self.readings = 0  # of the metagraph, so far

    async def start(self) -> None:
        """Read block and metagraph once. Raises ChainUnreachable when that takes longer than `start_seconds`."""
        try:
            async with asyncio.timeout(self._start_seconds):
                await self._advance(await self._gateway.block())
                await self.refresh()
        except TimeoutError as error:
            raise ChainUnreachable(
                f"The chain did not answer in {self._start_seconds:g} s", fix="Check --network, and that its node runs"
            ) from error

    async def follow(self) -> None:
        """Keep the picture fresh until cancelled."""
        async for number in self._gateway.heads():
            await self._advance(number)
            if self.metagraph_age() > self._refresh_seconds or self._epoch_has_ended(number):
                try:
                    await self.refresh()
                except OutsideError as error:
                    log.warning("metagraph_unread", code=error.code, problem=str(error))

    async def wait_for_block(self, block: int) -> int:
        """Sleep until `block` is reached; the newest block then."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.block >= block)
        return self.block

    async def wait_for_reading(self, number: int) -> None:
        """Sleep until the metagraph has been read so many times."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.readings >= number)

    def head_age(self) -> float:
        """Seconds since the newest block came."""
        return self._clock.now() - self._head_at

    def metagraph_age(self) -> float:
        """Seconds since the metagraph was read."""
        return self._clock.now() - self._read_at

    def metagraph(self) -> Metagraph:
        """The newest metagraph that was read. Raises ChainUnreachable when it is too old to act on."""
        if self._metagraph is None or self.metagraph_age() > STALE_SECONDS:
            raise ChainUnreachable(
                f"The metagraph was last read {self.metagraph_age():.0f} s ago", fix="Check the chain's endpoint"
            )
        return self._metagraph

    async def refresh(self) -> Metagraph:
        """Read the metagraph now."""
        async with self._reading:
            self._metagraph = graph = await self._gateway.metagraph()
            self._read_at = self._clock.now()
        async with self._moved:
            self.readings += 1
            self._moved.notify_all()
        return graph

    def _epoch_has_ended(self, block: int) -> bool:
        """Whether an epoch has come due since the metagraph was read: weights are decided once per epoch, and an epoch may be short.

        It is asked for two blocks, because chains count an epoch as `tempo` blocks or as one more.
        """
        known = self._metagraph
        return known is not None and known.block <= known.next_epoch_block <= block and block > known.block

    async def _advance(self, block: int) -> None:
        async with self._moved:
            if block > self.block:
                self.block, self._head_at = block, self._clock.now()
            self._moved.notify_all()
