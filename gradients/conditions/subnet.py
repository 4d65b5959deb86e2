"""What a daemon needs of its subnet, looked at with each metagraph: its seat, for a validator permit and stake, its address, and the clock.

And the chain itself: whether new blocks and metagraphs still come. That look asks nobody, so that it works while the chain says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradients.chain.gateway import ChainGateway
from gradients.chain.view import STALE_SECONDS, ChainView
from gradients.clock import Clock
from gradients.conditions.axon import OwnAxon
from gradients.doctor import subnet
from gradients.doctor.findings import Finding
from gradients.doctor.subnet import LATE_BLOCKS, LATE_SECONDS, Role, Seen
from gradients.domain.chain import Metagraph, Neuron

METAGRAPHS_MISSED = 3  # in a row, before the last one counts as old


@dataclass(frozen=True, slots=True)
class Subnet:
    """Who we are on it."""

    gateway: ChainGateway
    view: ChainView
    clock: Clock
    role: Role
    axon: OwnAxon
    block_seconds: float

    async def look(self) -> Sequence[Finding]:
        """The findings of one metagraph; an address that another process has taken is published again on the way. Raises OutsideError."""
        graph = self.view.metagraph()
        neuron = graph.by_hotkey(self.gateway.hotkey)
        seen = Seen(graph, self.block_seconds, await self.gateway.head_time(), price_tao=None)
        findings = [*subnet.membership(seen, self.role)]
        if self.view.head_age() <= oldest_head(self.block_seconds):  # a chain that stands still is no news of our clock
            findings.append(subnet.clock(seen, self.clock))
        if neuron is None:
            return findings
        if self.role.name == "validator":
            findings.append(stake(graph, neuron, await self.gateway.stake_threshold_alpha()))
        return [*findings, await self.axon.look(neuron)]


def stake(graph: Metagraph, neuron: Neuron, threshold_alpha: float) -> Finding:
    """Whether the chain takes weights from a hotkey with this stake; it takes the owner's whatever that has."""
    found = f"{neuron.stake_alpha:,.1f} alpha, and the chain asks {threshold_alpha:,.1f} of who sets weights"
    if neuron.stake_alpha >= threshold_alpha or neuron.hotkey == graph.owner_hotkey:
        return Finding("stake", "ok", found)
    advice = f"stake more on it: btcli stake add --netuid {graph.netuid} --hotkey {neuron.hotkey}"
    return Finding("stake", "missing", found, advice)


def oldest_head(block_seconds: float) -> float:
    """How many seconds may pass between two blocks that we see, while the chain lives."""
    return LATE_SECONDS + LATE_BLOCKS * block_seconds


@dataclass(frozen=True, slots=True)
class Chain:
    """How old the picture of it may be."""

    view: ChainView
    network: str
    block_seconds: float
    refresh_seconds: float

    async def look(self) -> Sequence[Finding]:
        """Whether new blocks come, and new metagraphs with them."""
        head, graph = self.view.head_age(), self.view.metagraph_age()
        limit = oldest_head(self.block_seconds)
        oldest_graph = min(METAGRAPHS_MISSED * self.refresh_seconds + limit, STALE_SECONDS)
        advice = f"see whether the node behind {self.network} runs and makes blocks; another one: --network"
        if head > limit:
            found = f"block {self.view.block} came {head:,.0f} s ago, and none since"
            return [Finding("chain", "missing", found, advice)]
        if graph > oldest_graph:
            found = f"blocks come, and the last metagraph that could be read is {graph:,.0f} s old"
            return [Finding("chain", "missing", found, advice)]
        return [Finding("chain", "ok", f"block {self.view.block}, {head:.0f} s ago; metagraph of {graph:.0f} s ago")]
