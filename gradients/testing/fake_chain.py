"""A subnet in memory, for tests of daemons that need a chain and no node: it keeps the rules that a daemon can run into.

Blocks pass when a transaction is included or when a test says so. Nobody computes incentive, and sealed weights stay sealed; the local
chain does the one (gradients/localchain), and no test can do the other without drand.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace

from gradients.chain.commitments import shared_blocks
from gradients.chain.gateway import LIFETIME_BLOCKS, MAX_COMMITMENT_BYTES
from gradients.chain.reading import exceeds
from gradients.clock import Clock, SystemClock
from gradients.domain.chain import AxonAddress, Commitment, Metagraph, Neuron, WeightsReceipt
from gradients.domain.emission import EmissionTerms, SubnetDemand
from gradients.domain.task import Hotkey
from gradients.errors import ChainOutcomeUnknown, ChainRefused, OutsideError

OWNER = Hotkey("owner")
PRICE_TAO = 0.1
REFUSED_IPS = ("127.0.0.1", "::1")
SOME_ROUND = 1000  # of drand


class FakeChain:
    """The subnet that several gateways share. Its owner has uid 0."""

    def __init__(
        self,
        *,
        netuid: int = 1,
        tempo_blocks: int = 20,
        block_seconds: float = 1.0,
        weights_version: int = 0,
        weights_rate_limit_blocks: int = 2,
        min_allowed_weights: int = 1,
        max_weight_limit: float = 1.0,
        activity_cutoff_blocks: int = 5000,
        kept_blocks: int = 300,
        clock: Clock = SystemClock(),  # noqa: B008 (it has no state)
        is_started: bool = True,
    ) -> None:
        self.block_seconds = block_seconds
        self.kept_blocks = kept_blocks  # of so many the state is known; hashes are known of all
        self.is_started = is_started  # epochs run in a subnet that is
        self.outage: OutsideError | None = None  # what every call raises while the chain is "down"
        self.lost_answers = 0  # so many of the next transactions are included without their sender hearing of it
        self.crowded = 0  # so many of the next transactions stand in the newest block, behind the ones that are there
        self.stake_threshold_alpha = 0.0  # below it, only the owner sets weights
        self.author = clock  # its clock is the chain's
        self.demand = SubnetDemand(price=1.0, miner_burned=0.0)
        self.committed: list[Commitment] = []  # everything that ever was, in order
        self.weights: dict[int, Mapping[int, float]] = {}
        self._extrinsics = 1  # of the newest block; the first sets the time
        self._moved = asyncio.Condition()
        self._graph = Metagraph(
            netuid=netuid,
            block=0,
            tempo_blocks=tempo_blocks,
            last_epoch_block=0,
            neurons=(),
            owner_hotkey=OWNER,
            weights_version=weights_version,
            weights_rate_limit_blocks=weights_rate_limit_blocks,
            commit_reveal=False,
            min_allowed_weights=min_allowed_weights,
            max_weight_limit=max_weight_limit,
            activity_cutoff_blocks=activity_cutoff_blocks,
        )
        self.seat(OWNER, coldkey="owner")

    @property
    def graph(self) -> Metagraph:
        """The subnet at the newest block."""
        return self._graph

    def gateway(self, hotkey: str, *, balance_tao: float = 1000.0) -> FakeGateway:
        """One wallet's view of the subnet."""
        return FakeGateway(self, Hotkey(hotkey), balance_tao)

    def seat(self, hotkey: Hotkey, *, coldkey: str) -> Neuron:
        """Give a hotkey the next uid."""
        block = self._graph.block
        neuron = Neuron(
            uid=len(self._graph.neurons),
            hotkey=hotkey,
            coldkey=coldkey,
            axon=None,
            validator_permit=hotkey == OWNER,
            stake_alpha=0.0,
            incentive=0.0,
            dividends=0.0,
            emission_alpha=0.0,
            last_update_block=block,
            registered_at_block=block,
        )
        self._graph = replace(self._graph, neurons=(*self._graph.neurons, neuron))
        return neuron

    def change(self, neuron: Neuron) -> None:
        """Put a changed neuron in the place of the one that has its uid: a permit, stake, an incentive."""
        neurons = [neuron if each.uid == neuron.uid else each for each in self._graph.neurons]
        self._graph = replace(self._graph, neurons=tuple(neurons))

    def set_limits(self, *, min_allowed_weights: int, max_weight_limit: float) -> None:
        """What rows of weights must look like from now on."""
        self._graph = replace(self._graph, min_allowed_weights=min_allowed_weights, max_weight_limit=max_weight_limit)

    def set_weights_rate_limit(self, blocks: int) -> None:
        """So many blocks lie between two settings of weights of a validator, from now on."""
        self._graph = replace(self._graph, weights_rate_limit_blocks=blocks)

    def set_weights_version(self, version: int) -> None:
        """The lowest version key that is taken from now on."""
        self._graph = replace(self._graph, weights_version=version)

    def seal_weights(self) -> None:
        """Turn commit-reveal on: from now on nobody can read the weights that are set."""
        self._graph = replace(self._graph, commit_reveal=True)

    async def advance(self, blocks: int = 1) -> None:
        """Let blocks pass, and epochs with them."""
        for _ in range(blocks):
            self._step()
            async with self._moved:
                self._moved.notify_all()

    async def include(self, transaction: Callable[[], None]) -> int:
        """Make a block with one transaction; the block. Raises ChainOutcomeUnknown when its answer is to be lost."""
        if self.crowded:
            self.crowded -= 1
        else:
            self._step()
        transaction()
        self._extrinsics += 1
        async with self._moved:
            self._moved.notify_all()
        if self.lost_answers:
            self.lost_answers -= 1
            raise ChainOutcomeUnknown("sent, and then silence (a test wants it so)")
        return self._graph.block

    def commit(self, hotkey: Hotkey, payload: bytes) -> None:
        """Write a commitment into the newest block, behind the transactions that stand there."""
        self.committed.append(Commitment(hotkey, payload, self._graph.block, self._extrinsics))

    async def next_block(self, after: int) -> int:
        """Sleep until a block after `after` stands; the newest one then."""
        async with self._moved:
            await self._moved.wait_for(lambda: self._graph.block > after)
        return self._graph.block

    def _step(self) -> None:
        block = self._graph.block + 1
        self._extrinsics = 1
        epoch_is_over = self.is_started and block >= self._graph.next_epoch_block
        last = block if epoch_is_over else self._graph.last_epoch_block
        self._graph = replace(self._graph, block=block, last_epoch_block=last)


class FakeGateway:
    """See ChainGateway; the codes of refusals are the chain's."""

    def __init__(self, chain: FakeChain, hotkey: Hotkey, balance_tao: float) -> None:
        self._chain = chain
        self._hotkey = hotkey
        self._balance_tao = balance_tao
        self.closed = False

    @property
    def netuid(self) -> int:
        return self._chain.graph.netuid

    @property
    def hotkey(self) -> Hotkey:
        return self._hotkey

    async def block(self) -> int:
        return self._graph().block

    async def block_hash(self, block: int) -> str:
        _require(block <= self._graph().block, "block_not_final")
        return f"0x{hashlib.sha256(f'{self.netuid}/{block}'.encode()).hexdigest()}"

    async def block_seconds(self) -> float:
        self._graph()
        return self._chain.block_seconds

    async def head_time(self) -> float:
        self._graph()
        return self._chain.author.now()

    async def stake_threshold_alpha(self) -> float:
        self._graph()
        return self._chain.stake_threshold_alpha

    async def heads(self) -> AsyncIterator[int]:
        block = self._chain.graph.block
        while True:
            yield block
            block = await self._chain.next_block(block)

    async def metagraph(self) -> Metagraph:
        return self._graph()

    async def emission_terms(self) -> EmissionTerms:
        return EmissionTerms({self.netuid: self._chain.demand}, gate_bar=0.0, gate_exponent=3.0)

    async def commitments(self, *, block: int | None = None) -> Mapping[Hotkey, Commitment]:
        newest = self._graph().block if block is None else block
        _require(newest > self._graph().block - self._chain.kept_blocks, "state_discarded")
        found = {each.hotkey: each for each in self._chain.committed if each.block <= newest}
        shared = shared_blocks(found.values())
        return {
            hotkey: each if each.block in shared else replace(each, extrinsic_index=None)
            for hotkey, each in found.items()
        }

    async def weights_of(self, uid: int) -> Mapping[int, float]:
        self._graph()
        return self._chain.weights.get(uid, {})

    async def balance_tao(self) -> float:
        self._graph()
        return self._balance_tao

    async def register(self) -> int:
        if (known := self._neuron()) is not None:
            return known.uid
        _require(self._balance_tao >= PRICE_TAO, "not_enough_balance_to_stake")

        def take_seat() -> None:
            self._balance_tao -= PRICE_TAO
            self._chain.seat(self._hotkey, coldkey=f"coldkey of {self._hotkey}")

        await self._chain.include(take_seat)
        return self._registered("not_registered").uid

    async def publish_axon(self, address: AxonAddress) -> bool:
        neuron = self._registered("hot_key_not_registered_in_network")
        if neuron.axon == address:
            return False
        _require(address.ip not in REFUSED_IPS, "invalid_ip_address")
        await self._chain.include(lambda: self._chain.change(replace(neuron, axon=address)))
        return True

    async def commit(self, payload: bytes) -> int:
        _require(0 < len(payload) <= MAX_COMMITMENT_BYTES, "commitment_length")
        standing = (await self.commitments()).get(self._hotkey)
        if standing is not None and standing.payload == payload:
            return standing.block
        self._registered("account_not_allowed_commit")
        return await self._chain.include(lambda: self._chain.commit(self._hotkey, payload))

    async def set_weights(
        self, shares: Mapping[int, float], *, version_key: int, lifetime_blocks: int = LIFETIME_BLOCKS
    ) -> WeightsReceipt:
        graph, neuron = self._graph(), self._registered("not_registered")
        waited = graph.block - neuron.last_update_block
        _require(waited >= graph.weights_rate_limit_blocks, "rate_limited")
        _require(version_key >= graph.weights_version, "incorrect_weight_version_key")
        is_owner = self._hotkey == graph.owner_hotkey
        _require(is_owner or neuron.stake_alpha >= self._chain.stake_threshold_alpha, "not_enough_stake_to_set_weights")
        _require(neuron.validator_permit or set(shares) == {neuron.uid}, "neuron_no_validator_permit")
        _require(all(uid < len(graph.neurons) for uid in shares), "uid_vec_contain_invalid_one")
        code = exceeds(shares, graph, setter=self._hotkey)
        _require(code is None, code or "")

        def write() -> None:
            self._chain.change(replace(neuron, last_update_block=self._chain.graph.block))
            if not self._chain.graph.commit_reveal:
                total = sum(shares.values())
                self._chain.weights[neuron.uid] = {uid: share / total for uid, share in shares.items() if share}

        block = await self._chain.include(write)
        return WeightsReceipt(block, SOME_ROUND if graph.commit_reveal else None)

    async def close(self) -> None:
        self.closed = True

    def _graph(self) -> Metagraph:
        """What the chain answers. Raises the outage while there is one."""
        if self._chain.outage is not None:
            raise self._chain.outage
        return self._chain.graph

    def _neuron(self) -> Neuron | None:
        return self._graph().by_hotkey(self._hotkey)

    def _registered(self, code: str) -> Neuron:
        neuron = self._neuron()
        if neuron is None:
            raise ChainRefused(f"{self._hotkey} is not registered", code=code)
        return neuron


def _require(condition: bool, code: str) -> None:
    if not condition:
        raise ChainRefused(f"The chain said no: {code}", code=code)
