"""What every gateway to the chain does: the one over the SDK, on a real node process, and the one in memory."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol
from uuid import uuid4

import pytest

from gradients.chain.gateway import ChainGateway
from gradients.chain.sdk import SdkGateway
from gradients.chain.wallet import open_wallet
from gradients.domain.chain import AxonAddress, Neuron
from gradients.errors import Blame, ChainRefused
from gradients.localchain.operator import Operator, operating
from gradients.testing.chain_process import ChainProcess
from gradients.testing.fake_chain import FakeChain
from gradients.testing.lossy_wire import LossyWire, lossy_wire

pytestmark = pytest.mark.anyio

BLOCK_SECONDS = 0.1
WEIGHTS_VERSION = 3
PRICE_TAO = 0.1
ADDRESS = AxonAddress("127.0.0.2", 8091)


class Stage(Protocol):
    """A subnet on which a test sets the scene."""

    async def newcomer(self, *, balance_tao: int = 1000) -> ChainGateway:
        """A gateway for a wallet that the subnet has never seen."""
        ...

    async def permit(self, gateway: ChainGateway) -> None:
        """Let a registered hotkey set weights on others."""
        ...

    async def let_blocks_pass(self, count: int) -> None:
        """Come back when so many more blocks stand."""
        ...

    async def take_sealed_weights_only(self) -> None:
        """Turn commit-reveal on."""
        ...

    async def space_weights(self, blocks: int) -> None:
        """From now on so many blocks lie between two settings of weights."""
        ...

    async def limit_weights(self, *, fewest: int, largest: float) -> None:
        """Take rows of at least so many uids only, of which none has a larger part of the sum."""
        ...

    async def ask_stake_of_weights(self, alpha: float) -> None:
        """From now on, who has less stake sets no weights."""
        ...

    async def commit_in_one_block(self, gateways: Sequence[ChainGateway], payloads: Sequence[bytes]) -> None:
        """Let the gateways' commitments share a block, in this order."""
        ...


class FakeStage:
    def __init__(self) -> None:
        self._chain = FakeChain(block_seconds=BLOCK_SECONDS, weights_version=WEIGHTS_VERSION)

    async def newcomer(self, *, balance_tao: int = 1000) -> ChainGateway:
        return self._chain.gateway(uuid4().hex, balance_tao=balance_tao)

    async def permit(self, gateway: ChainGateway) -> None:
        self._chain.change(replace(await neuron_of(gateway), validator_permit=True))

    async def let_blocks_pass(self, count: int) -> None:
        await self._chain.advance(count)

    async def take_sealed_weights_only(self) -> None:
        self._chain.seal_weights()

    async def space_weights(self, blocks: int) -> None:
        self._chain.set_weights_rate_limit(blocks)

    async def limit_weights(self, *, fewest: int, largest: float) -> None:
        self._chain.set_limits(min_allowed_weights=fewest, max_weight_limit=largest)

    async def ask_stake_of_weights(self, alpha: float) -> None:
        self._chain.stake_threshold_alpha = alpha

    async def commit_in_one_block(self, gateways: Sequence[ChainGateway], payloads: Sequence[bytes]) -> None:
        await self._chain.advance()
        self._chain.crowded = len(gateways)
        for gateway, payload in zip(gateways, payloads, strict=True):
            await gateway.commit(payload)


class NodeStage:
    """On the shared node: every wallet is new, so tests don't meet."""

    def __init__(self, wire: LossyWire, operator: Operator) -> None:
        self._wire = wire
        self._operator = operator
        self._gateways: list[SdkGateway] = []

    async def newcomer(self, *, balance_tao: int = 1000) -> ChainGateway:
        name = f"//{uuid4().hex}"
        keys = open_wallet(name, "hotkey")
        if balance_tao:
            await self._operator.fund(keys.coldkey.ss58_address, balance_tao * 10**9)
        self._gateways.append(SdkGateway(self._wire.url, 1, keys, timeout_seconds=60))
        return self._gateways[-1]

    async def permit(self, gateway: ChainGateway) -> None:
        neuron = await neuron_of(gateway)
        await self._operator.stake(coldkey=neuron.coldkey, hotkey=neuron.hotkey, netuid=1, rao=10**12)
        await self._operator.trigger_epoch(1)
        await self.let_blocks_pass(2)

    async def let_blocks_pass(self, count: int) -> None:
        gateway = self._gateways[-1]
        until = await gateway.block() + count
        async for block in gateway.heads():
            if block >= until:
                return

    async def take_sealed_weights_only(self) -> None:
        await self._operator.set_hyperparameter(1, "commit_reveal_weights_enabled", True)

    async def ask_stake_of_weights(self, alpha: float) -> None:
        await self._operator.set_hyperparameter(1, "stake_threshold", round(alpha * 1e9))

    async def space_weights(self, blocks: int) -> None:
        await self._operator.set_hyperparameter(1, "weights_rate_limit", blocks)

    async def limit_weights(self, *, fewest: int, largest: float) -> None:
        await self._operator.set_hyperparameter(1, "min_allowed_weights", fewest)
        await self._operator.set_hyperparameter(1, "max_weights_limit", round(largest * 65535))

    async def commit_in_one_block(self, gateways: Sequence[ChainGateway], payloads: Sequence[bytes]) -> None:
        """Let go behind one another when all are on their way; tried again when a block comes in between."""
        for number in range(20):
            self._wire.held, self._wire.holds_back, calls = [], True, list[asyncio.Task[int]]()
            for gateway, payload in zip(gateways, payloads, strict=True):
                calls.append(asyncio.create_task(gateway.commit(payload + bytes([number]))))
                await self._wire.has_held(len(calls))
            self._wire.holds_back = False
            for each in self._wire.held:
                each.set()
            if len(set(await asyncio.gather(*calls))) == 1:
                return
        raise AssertionError("the commitments never met in a block")

    async def close(self) -> None:
        await self.space_weights(2)
        await self.limit_weights(fewest=1, largest=1.0)
        await self.ask_stake_of_weights(0.0)
        await self._operator.set_hyperparameter(1, "commit_reveal_weights_enabled", False)
        for gateway in self._gateways:
            await gateway.close()


@pytest.fixture(params=["fake", "sdk"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    if request.param == "fake":
        yield FakeStage()
        return
    chain: ChainProcess = request.getfixturevalue("shared_chain")
    async with operating(chain.url) as operator, lossy_wire(chain.url) as wire:
        await operator.set_hyperparameter(1, "weights_version", WEIGHTS_VERSION)
        stage = NodeStage(wire, operator)
        try:
            yield stage
        finally:
            await stage.close()


async def neuron_of(gateway: ChainGateway) -> Neuron:
    neuron = (await gateway.metagraph()).by_hotkey(gateway.hotkey)
    assert neuron is not None
    return neuron


async def registered(stage: Stage) -> ChainGateway:
    gateway = await stage.newcomer()
    await gateway.register()
    return gateway


async def permitted(stage: Stage) -> ChainGateway:
    gateway = await registered(stage)
    await stage.permit(gateway)
    await stage.let_blocks_pass(2)  # registering counts as the last setting of weights
    return gateway


async def refusal(call: Awaitable[object]) -> str:
    """The code with which the chain refuses the call."""
    with pytest.raises(ChainRefused) as caught:
        await call
    assert caught.value.blame is Blame.OUTSIDE
    return caught.value.code


async def test_the_metagraph_shows_the_subnet_at_the_newest_block(stage: Stage) -> None:
    gateway = await stage.newcomer()
    before = await gateway.block()
    metagraph = await gateway.metagraph()
    assert metagraph.netuid == gateway.netuid == 1
    assert before <= metagraph.block <= await gateway.block()
    assert metagraph.last_epoch_block <= metagraph.block < metagraph.last_epoch_block + metagraph.tempo_blocks
    assert [neuron.uid for neuron in metagraph.neurons] == list(range(len(metagraph.neurons)))
    assert metagraph.by_hotkey(metagraph.owner_hotkey) == metagraph.neurons[0]
    assert metagraph.by_hotkey(gateway.hotkey) is None
    assert metagraph.weights_version == WEIGHTS_VERSION
    assert not metagraph.commit_reveal


async def test_the_block_time_is_the_chains(stage: Stage) -> None:
    assert await (await stage.newcomer()).block_seconds() == pytest.approx(BLOCK_SECONDS)


async def test_a_final_block_has_one_hash_for_ever_and_no_two_blocks_share_one(stage: Stage) -> None:
    gateway = await stage.newcomer()
    await stage.let_blocks_pass(3)
    final = await gateway.block()
    hashes = [await gateway.block_hash(block) for block in (1, final - 1, final)]
    assert len(set(hashes)) == 3
    assert all(re.fullmatch("0x[0-9a-f]{64}", each) for each in hashes)
    await stage.let_blocks_pass(1)
    assert await gateway.block_hash(final) == hashes[-1]


async def test_a_block_that_does_not_stand_yet_has_no_hash(stage: Stage) -> None:
    gateway = await stage.newcomer()
    assert await refusal(gateway.block_hash(await gateway.block() + 1000)) == "block_not_final"


async def test_heads_rise(stage: Stage) -> None:
    heads = (await stage.newcomer()).heads()
    first = await anext(heads)
    await stage.let_blocks_pass(1)
    assert await anext(heads) > first


async def test_registering_twice_is_registering_once(stage: Stage) -> None:
    gateway = await stage.newcomer(balance_tao=1)
    uid = await gateway.register()
    assert await gateway.register() == uid
    neuron = await neuron_of(gateway)
    assert (neuron.uid, neuron.axon, neuron.validator_permit) == (uid, None, False)
    assert neuron.registered_at_block == neuron.last_update_block <= await gateway.block()
    assert await gateway.balance_tao() == pytest.approx(1 - PRICE_TAO)


async def test_who_cannot_pay_is_not_registered(stage: Stage) -> None:
    gateway = await stage.newcomer(balance_tao=0)
    assert await refusal(gateway.register()) == "not_enough_balance_to_stake"
    assert (await gateway.metagraph()).by_hotkey(gateway.hotkey) is None
    assert await gateway.balance_tao() == 0


async def test_an_axon_is_published_only_when_the_chain_shows_another(stage: Stage) -> None:
    gateway = await registered(stage)
    assert await gateway.publish_axon(ADDRESS)
    assert (await neuron_of(gateway)).axon == ADDRESS
    assert not await gateway.publish_axon(ADDRESS)
    moved = replace(ADDRESS, port=8092)
    await stage.let_blocks_pass(1)
    assert await gateway.publish_axon(moved)
    assert (await neuron_of(gateway)).axon == moved


async def test_the_address_of_the_machine_itself_is_no_axon(stage: Stage) -> None:
    gateway = await registered(stage)
    assert await refusal(gateway.publish_axon(AxonAddress("127.0.0.1", 8091))) == "invalid_ip_address"
    assert (await neuron_of(gateway)).axon is None


WRITES: dict[str, Callable[[ChainGateway], Awaitable[object]]] = {
    "hot_key_not_registered_in_network": lambda gateway: gateway.publish_axon(ADDRESS),
    "account_not_allowed_commit": lambda gateway: gateway.commit(b"payload"),
    "not_registered": lambda gateway: gateway.set_weights({0: 1.0}, version_key=WEIGHTS_VERSION),
}


@pytest.mark.parametrize("code", sorted(WRITES))
async def test_who_is_not_registered_cannot_write(stage: Stage, code: str) -> None:
    assert await refusal(WRITES[code](await stage.newcomer())) == code


async def test_a_commitment_stands_until_another_replaces_it(stage: Stage) -> None:
    gateway = await registered(stage)
    payload = bytes(range(128))
    block = await gateway.commit(payload)
    assert await gateway.commit(payload) == block  # it stands there: nothing is sent
    replaced_at = await gateway.commit(b"another")
    assert replaced_at > block
    now, then = await gateway.commitments(), await gateway.commitments(block=replaced_at - 1)
    assert (now[gateway.hotkey].payload, now[gateway.hotkey].block) == (b"another", replaced_at)
    assert (then[gateway.hotkey].payload, then[gateway.hotkey].block) == (payload, block)
    assert gateway.hotkey not in await gateway.commitments(block=block - 1)


@pytest.mark.parametrize("payload", [b"", bytes(129)])
async def test_a_commitment_has_1_to_128_bytes(stage: Stage, payload: bytes) -> None:
    gateway = await registered(stage)
    assert await refusal(gateway.commit(payload)) == "commitment_length"


async def test_commitments_of_one_block_know_their_order_and_one_that_stands_alone_has_none(stage: Stage) -> None:
    alone, *crowd = [await registered(stage) for _ in range(4)]
    await alone.commit(b"alone")
    await stage.commit_in_one_block(crowd, [b"first", b"second", b"third"])
    found = await alone.commitments()
    together = [found[each.hotkey] for each in crowd]
    assert len({each.block for each in together}) == 1
    places = [each.extrinsic_index for each in together]
    assert None not in places
    assert len(set(places)) == 3
    assert found[alone.hotkey].extrinsic_index is None
    assert (
        await crowd[0].commitments(block=together[0].block) == found
    )  # and on another connection, later, it is the same


async def test_weights_are_read_back_as_shares(stage: Stage) -> None:
    gateway = await permitted(stage)
    uid = (await neuron_of(gateway)).uid
    assert await gateway.weights_of(uid) == {}
    receipt = await gateway.set_weights({0: 1.0, uid: 3.0}, version_key=WEIGHTS_VERSION)
    assert await gateway.weights_of(uid) == pytest.approx({0: 0.25, uid: 0.75}, abs=1e-4)
    assert (await neuron_of(gateway)).last_update_block == receipt.block
    assert receipt.reveal_round is None


async def test_weights_may_not_follow_one_another_too_fast(stage: Stage) -> None:
    await stage.space_weights(10_000)
    gateway = await registered(stage)  # which counts as setting weights
    assert await refusal(gateway.set_weights({0: 1.0}, version_key=WEIGHTS_VERSION)) == "rate_limited"


@pytest.mark.parametrize(
    ("weights", "version", "code"),
    [
        ({0: 1.0}, WEIGHTS_VERSION - 1, "incorrect_weight_version_key"),
        ({4095: 1.0}, WEIGHTS_VERSION, "uid_vec_contain_invalid_one"),
    ],
)
async def test_weights_of_an_old_version_or_on_nobody_are_refused(
    stage: Stage, weights: dict[int, float], version: int, code: str
) -> None:
    gateway = await permitted(stage)
    assert await refusal(gateway.set_weights(weights, version_key=version)) == code
    assert await gateway.weights_of((await neuron_of(gateway)).uid) == {}


async def test_the_metagraph_shows_what_a_row_of_weights_must_be_like(stage: Stage) -> None:
    gateway = await stage.newcomer()
    before = await gateway.metagraph()
    assert (before.min_allowed_weights, before.max_weight_limit) == (1, 1.0)
    assert before.activity_cutoff_blocks > 0
    await stage.limit_weights(fewest=2, largest=0.6)
    after = await gateway.metagraph()
    assert after.min_allowed_weights == 2
    assert after.max_weight_limit == pytest.approx(0.6)


async def test_a_row_of_weights_outside_of_the_limits_is_refused_and_never_bent(stage: Stage) -> None:
    gateway = await permitted(stage)
    uid = (await neuron_of(gateway)).uid
    await stage.limit_weights(fewest=2, largest=0.6)
    short, lopsided = {0: 65535.0}, {0: 65535.0, uid: 32767.0}
    assert await refusal(gateway.set_weights(short, version_key=WEIGHTS_VERSION)) == "weight_vec_length_is_low"
    assert await refusal(gateway.set_weights(lopsided, version_key=WEIGHTS_VERSION)) == "max_weight_exceeded"
    assert await gateway.weights_of(uid) == {}
    # 65535 / (65535 + 43690) is 0.6 exactly.
    await gateway.set_weights({0: 65535.0, uid: 43690.0}, version_key=WEIGHTS_VERSION)
    assert await gateway.weights_of(uid) == pytest.approx({0: 0.6, uid: 0.4}, abs=1e-9)


async def test_a_row_of_ones_own_uid_alone_is_free_of_the_limits(stage: Stage) -> None:
    gateway = await permitted(stage)
    uid = (await neuron_of(gateway)).uid
    await stage.limit_weights(fewest=2, largest=0.6)
    await gateway.set_weights({uid: 65535.0}, version_key=WEIGHTS_VERSION)
    assert await gateway.weights_of(uid) == {uid: 1.0}


async def test_the_chain_says_what_subnets_are_paid_by(stage: Stage) -> None:
    terms = await (await stage.newcomer()).emission_terms()
    demand = terms.subnets[1]
    assert (demand.price, demand.enabled) == (1.0, True)
    assert 0 <= demand.miner_burned <= 1
    assert (terms.gate_bar, terms.gate_exponent) == (0.0, 3.0)
    assert sum(terms.shares().values()) == pytest.approx(1.0)


async def test_without_a_permit_nobody_judges_others(stage: Stage) -> None:
    gateway = await registered(stage)
    await stage.let_blocks_pass(2)
    assert await refusal(gateway.set_weights({0: 1.0}, version_key=WEIGHTS_VERSION)) == "neuron_no_validator_permit"
    uid = (await neuron_of(gateway)).uid
    await gateway.set_weights({uid: 1.0}, version_key=WEIGHTS_VERSION)  # on itself anybody may
    assert await gateway.weights_of(uid) == {uid: 1.0}


async def test_below_the_threshold_of_stake_nobody_but_the_owner_sets_weights(stage: Stage) -> None:
    gateway = await permitted(stage)
    assert await gateway.stake_threshold_alpha() == 0.0
    more = (await neuron_of(gateway)).stake_alpha + 1e6
    await stage.ask_stake_of_weights(more)
    assert await gateway.stake_threshold_alpha() == pytest.approx(more)
    assert (
        await refusal(gateway.set_weights({0: 1.0}, version_key=WEIGHTS_VERSION)) == "not_enough_stake_to_set_weights"
    )


async def test_the_newest_block_is_of_now(stage: Stage) -> None:
    assert await (await stage.newcomer()).head_time() == pytest.approx(time.time(), abs=60)


async def test_sealed_weights_have_a_reveal_round_and_cannot_be_read(stage: Stage) -> None:
    gateway = await permitted(stage)
    await stage.take_sealed_weights_only()
    assert (await gateway.metagraph()).commit_reveal
    receipt = await gateway.set_weights({0: 1.0}, version_key=WEIGHTS_VERSION)
    neuron = await neuron_of(gateway)
    assert receipt.reveal_round is not None
    assert neuron.last_update_block == receipt.block
    assert await gateway.weights_of(neuron.uid) == {}
