"""What only a real connection can do: break. The node is killed, answers are lost, nobody listens, two write at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from gradients.chain.sdk import SdkGateway
from gradients.chain.wallet import WalletKeys, open_wallet
from gradients.clock import SystemClock
from gradients.domain.chain import AxonAddress
from gradients.errors import ChainOutcomeUnknown, ChainRefused, ChainUnreachable
from gradients.localchain.chain import Chain
from gradients.localchain.operator import Operator, operating
from gradients.localchain.settings import LocalChainSettings
from gradients.localchain.state import KEPT_BLOCKS
from gradients.localchain.store import Store
from gradients.testing.chain_process import ChainProcess, chain_process
from gradients.testing.lossy_wire import Loss, LossyWire, lossy_wire

pytestmark = pytest.mark.anyio

LIMIT_SECONDS = (
    2.0  # where a test waits for it, once it is connected: nobody says how long that takes on a busy machine
)
PATIENCE_SECONDS = 120.0  # of the test, on a busy machine
AMPLE_SECONDS = 60.0
RAO_PER_TAO = 10**9


@asynccontextmanager
async def connected(
    url: str, keys: WalletKeys, *, netuid: int = 1, limit_seconds: float = AMPLE_SECONDS
) -> AsyncIterator[SdkGateway]:
    gateway = SdkGateway(url, netuid, keys, timeout_seconds=limit_seconds)
    try:
        yield gateway
    finally:
        await gateway.close()


@contextlib.contextmanager
def hurried(gateway: SdkGateway) -> Iterator[None]:
    """A short time limit for what is known to be lost."""
    gateway._patience.seconds = LIMIT_SECONDS
    yield
    gateway._patience.seconds = AMPLE_SECONDS


async def funded(operator: Operator) -> WalletKeys:
    """A wallet with a TAO, new to the chain."""
    keys = open_wallet(f"//{uuid4().hex}", "hotkey")
    await operator.fund(keys.coldkey.ss58_address, RAO_PER_TAO)
    return keys


async def transactions(operator: Operator, address: str) -> int:
    """How many transactions of an account stand in blocks."""
    count = await operator.request("system_accountNextIndex", address)
    assert isinstance(count, int)
    return count


@pytest.fixture
async def operator(shared_chain: ChainProcess) -> AsyncIterator[Operator]:
    async with operating(shared_chain.url) as operator:
        yield operator


@pytest.fixture
async def wire(shared_chain: ChainProcess) -> AsyncIterator[LossyWire]:
    async with lossy_wire(shared_chain.url) as wire:
        yield wire


async def test_a_transaction_whose_answer_is_lost_is_found_on_chain_and_not_sent_again(
    wire: LossyWire, operator: Operator
) -> None:
    keys = await funded(operator)
    async with connected(wire.url, keys) as gateway:
        await gateway.register()
        wire.loss = Loss.ANSWER
        block = await gateway.commit(b"said once")
        assert wire.loss is Loss.NOTHING  # the answer was lost indeed
        assert (await gateway.commitments())[gateway.hotkey].block == block
        assert await transactions(operator, gateway.hotkey) == 1


async def test_a_registration_whose_answer_is_lost_is_paid_once(wire: LossyWire, operator: Operator) -> None:
    keys = await funded(operator)
    async with connected(wire.url, keys) as gateway:
        wire.loss = Loss.ANSWER
        uid = await gateway.register()
        assert wire.loss is Loss.NOTHING
        assert await gateway.register() == uid
        assert await gateway.balance_tao() == pytest.approx(0.9)


async def test_a_transaction_that_never_arrives_has_an_unknown_outcome_and_may_be_repeated(
    wire: LossyWire, operator: Operator
) -> None:
    keys = await funded(operator)
    async with connected(wire.url, keys) as gateway:
        await gateway.register()
        wire.loss = Loss.TRANSACTION
        with hurried(gateway), pytest.raises(ChainOutcomeUnknown, match="Committing"):
            await gateway.commit(b"lost")
        assert await transactions(operator, gateway.hotkey) == 0
        await gateway.commit(b"lost")
        assert (await gateway.commitments())[gateway.hotkey].payload == b"lost"


async def test_a_call_that_arrives_after_its_lifetime_is_never_included(
    shared_chain: ChainProcess, operator: Operator
) -> None:
    """A call that lives for 8 blocks and is longer on its way comes too late, one that lives for 1,024 does not."""
    async with lossy_wire(shared_chain.url) as slow:
        keys = await funded(operator)
        async with connected(shared_chain.url, keys) as direct, connected(slow.url, keys) as gateway:
            uid = await direct.register()
            await operator.set_hyperparameter(1, "weights_version", 0)
            slow.holds_back = True

            async def set_weights(*, lifetime_blocks: int) -> None:
                held = len(slow.held)
                await blocks_pass(direct, 3)  # registering counts as setting weights, and the rate limit is 2 blocks
                calling = asyncio.create_task(
                    gateway.set_weights({uid: 1.0}, version_key=0, lifetime_blocks=lifetime_blocks)
                )
                await slow.has_held(held + 1)
                await blocks_pass(direct, 9)
                slow.held[-1].set()
                await calling

            with pytest.raises(
                ChainRefused, match="signature"
            ):  # the chain takes the next era for its, and so another hash
                await set_weights(lifetime_blocks=8)
            assert await direct.weights_of(uid) == {}
            await set_weights(lifetime_blocks=1024)
            assert await direct.weights_of(uid) == {uid: 1.0}


async def blocks_pass(gateway: SdkGateway, count: int) -> None:
    until = await gateway.block() + count
    async for block in gateway.heads():
        if block >= until:
            return


@pytest.mark.parametrize("end", [ChainProcess.kill, ChainProcess.stop], ids=["killed", "stopped"])
def test_a_node_that_goes_and_comes_back_costs_no_more_than_the_time_limit(
    tmp_path: Path, end: Callable[[ChainProcess], object]
) -> None:
    with chain_process(tmp_path, "--block-seconds=0.1") as chain:
        # Not under anyio: SDK 11.3 trips over a connection that a node closes in good order, and anyio would count that as ours.
        asyncio.run(lose_the_node(chain, end))


async def lose_the_node(chain: ChainProcess, end: Callable[[ChainProcess], object]) -> None:
    async with connected(chain.url, open_wallet("//Alice", "hotkey")) as gateway:
        await gateway.register()
        heads = gateway.heads()
        seen = await anext(heads)
        await asyncio.to_thread(end, chain)
        with hurried(gateway):
            async with asyncio.timeout(AMPLE_SECONDS):
                with pytest.raises(ChainUnreachable, match=chain.url):
                    await gateway.metagraph()
        chain.start()
        async with asyncio.timeout(PATIENCE_SECONDS):
            with hurried(gateway):
                while not await has_committed(gateway, b"back again"):  # the SDK takes its time to dial again
                    pass
        assert (await gateway.commitments())[gateway.hotkey].payload == b"back again"
        last = await gateway.block()
        async with asyncio.timeout(PATIENCE_SECONDS):
            with hurried(gateway):
                while seen < last:
                    seen = await anext(heads)


async def has_committed(gateway: SdkGateway, payload: bytes) -> bool:
    try:
        await gateway.commit(payload)
    except (ChainUnreachable, ChainOutcomeUnknown):
        return False
    return True


def test_the_hash_of_an_old_block_outlives_its_state_and_the_node(tmp_path: Path) -> None:
    async def grow() -> str:
        settings = LocalChainSettings(data=tmp_path)
        with contextlib.closing(Store(tmp_path)) as store:
            chain = Chain(settings, store, SystemClock())
            for _ in range(KEPT_BLOCKS + 2):
                await chain.advance()
            return f"0x{chain.header(None).parent_hash.hex()}"

    async def look_back() -> None:
        async with connected(chain.url, open_wallet("//Alice", "hotkey")) as gateway:
            with pytest.raises(ChainRefused):
                await gateway.commitments(block=1)
            assert await gateway.block_hash(KEPT_BLOCKS + 1) == parent
            hashes.append(await gateway.block_hash(1))

    hashes: list[str] = []
    parent = asyncio.run(grow())
    with chain_process(tmp_path) as chain:
        asyncio.run(look_back())
        chain.kill()
        chain.start()
        asyncio.run(look_back())
    assert hashes[0] == hashes[1] != parent


async def test_a_chain_that_is_not_there_is_named(tmp_path: Path) -> None:
    with chain_process(tmp_path) as chain:
        chain.kill()
        keys = open_wallet("//Alice", "hotkey")
        async with connected(chain.url, keys, limit_seconds=LIMIT_SECONDS) as gateway:
            with pytest.raises(ChainUnreachable, match=f"Reading the balance: {chain.url} does not answer") as caught:
                await gateway.balance_tao()
    assert caught.value.fix is not None
    assert chain.url in caught.value.fix


async def test_a_subnet_that_is_not_there_is_named(shared_chain: ChainProcess) -> None:
    async with connected(shared_chain.url, open_wallet("//Alice", "hotkey"), netuid=99) as gateway:
        with pytest.raises(ChainRefused, match=f"no subnet 99 on {shared_chain.url}") as caught:
            await gateway.metagraph()
    assert caught.value.code == "subnet_missing"


async def test_calls_of_one_gateway_may_run_at_once(shared_chain: ChainProcess, operator: Operator) -> None:
    keys = await funded(operator)
    async with connected(shared_chain.url, keys) as gateway:
        blocks = await asyncio.gather(*(gateway.block() for _ in range(5)))
        assert max(blocks) - min(blocks) <= 1
        await gateway.register()
        written = await asyncio.gather(gateway.commit(b"one"), gateway.publish_axon(AxonAddress("127.0.0.2", 80)))
        assert written[1]
        assert await transactions(operator, gateway.hotkey) == 2


async def test_two_processes_with_one_wallet_do_not_hinder_one_another(
    shared_chain: ChainProcess, operator: Operator
) -> None:
    keys = await funded(operator)
    async with connected(shared_chain.url, keys) as one, connected(shared_chain.url, keys) as other:
        await one.register()
        await asyncio.gather(one.commit(b"one"), other.publish_axon(AxonAddress("127.0.0.2", 80)))
        neuron = (await one.metagraph()).by_hotkey(one.hotkey)
        assert neuron is not None
        assert neuron.axon == AxonAddress("127.0.0.2", 80)
        assert (await other.commitments())[one.hotkey].payload == b"one"


async def test_who_comes_too_late_with_a_nonce_takes_the_next_one(
    shared_chain: ChainProcess, wire: LossyWire, operator: Operator
) -> None:
    keys = await funded(operator)
    async with connected(shared_chain.url, keys) as one, connected(wire.url, keys) as late:
        await one.register()
        wire.holds_back = True
        committing = asyncio.create_task(late.commit(b"late"))
        await wire.has_held(1)
        await one.publish_axon(AxonAddress("127.0.0.2", 80))
        wire.holds_back = False
        wire.held[0].set()
        await committing
        assert (await one.commitments())[one.hotkey].payload == b"late"
        assert await transactions(operator, one.hotkey) == 2


async def test_nobody_registers_twice_at_once(shared_chain: ChainProcess, operator: Operator) -> None:
    keys = await funded(operator)
    async with connected(shared_chain.url, keys) as one, connected(shared_chain.url, keys) as other:
        first, second = await asyncio.gather(one.register(), other.register())
        assert first == second
        assert await one.balance_tao() == pytest.approx(0.9)
