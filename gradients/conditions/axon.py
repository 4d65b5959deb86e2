"""Our own address on chain. Two processes of one hotkey take it from each other: it is taken back, loudly, and not for ever.

Whoever publishes last is called by everybody. Our own goes out again with the next metagraph, at most `MOST_AN_HOUR` times, so that two
daemons which both insist don't fill blocks: then only ending one of them helps, and the finding says so.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from gradients.chain.gateway import ChainGateway
from gradients.chain.view import ChainView
from gradients.clock import Clock
from gradients.doctor.findings import Finding
from gradients.domain.chain import AxonAddress, Neuron
from gradients.errors import OutsideError
from gradients.log import get_logger

MOST_AN_HOUR = 4
_HOUR_SECONDS = 3600.0

log = get_logger("conditions")


@dataclass(frozen=True, slots=True)
class OwnAxon:
    """The address that this daemon serves at, and when it was published again."""

    gateway: ChainGateway
    view: ChainView
    clock: Clock
    address: AxonAddress
    again_at: deque[float] = field(default_factory=deque)

    async def look(self, neuron: Neuron) -> Finding:
        """Whether ours is the one on chain. When it is not, it is published again here, unless that was done too often."""
        ours = self.address.url()
        if neuron.axon == self.address:
            return Finding("axon", "ok", f"{ours} stands on chain")
        stands = neuron.axon.url() if neuron.axon else "no address"
        found = f"{stands} stands on chain for this hotkey, and this daemon serves at {ours}"
        advice = (
            "end the other process of this hotkey: two take the axon from each other"
            if neuron.axon
            else "nothing: it is published again"
        )
        now = self.clock.now()
        while self.again_at and self.again_at[0] <= now - _HOUR_SECONDS:
            self.again_at.popleft()
        if len(self.again_at) >= MOST_AN_HOUR:
            found += f"; ours was published {MOST_AN_HOUR} times within an hour, and no more until that hour is over"
            return Finding("axon", "missing", found, advice)
        log.warning("axon_taken_over", stands=stands, ours=ours, remedy=advice)
        self.again_at.append(now)
        try:
            await self.gateway.publish_axon(self.address)
        except OutsideError as error:
            return Finding("axon", "missing", f"{found}; publishing ours failed: {error.message}", error.fix or advice)
        log.info("axon_published", url=ours)
        await self.view.refresh()  # which brings on the next look
        return Finding("axon", "missing", f"{found}; ours has just been published again", advice)
