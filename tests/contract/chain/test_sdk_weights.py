"""The row that we make is the row that stands on chain, value by value: neither the SDK's clipping nor its scaling changes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import NamedTuple

import bittensor as bt
import pytest

from gradients.chain.sdk import SdkGateway
from gradients.chain.wallet import open_wallet
from gradients.localchain.operator import Operator, operating
from gradients.scoring.limits import U16_MAX, Limits, Row, fit
from gradients.testing.chain_process import ChainProcess, chain_process

pytestmark = pytest.mark.anyio

MINERS = 8
TAO = 10**9
OPEN = Limits(1, U16_MAX)


class Subnet(NamedTuple):
    chain: ChainProcess
    operator: Operator
    validator: SdkGateway
    uid: int
    miners: list[int]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChainProcess]:
    flags = ("--block-seconds=0.1", "--tempo=50000")
    with chain_process(tmp_path_factory.mktemp("weights"), *flags) as chain:
        yield chain


@pytest.fixture(scope="module")
async def subnet(chain: ChainProcess) -> AsyncIterator[Subnet]:
    """A validator with a permit, and eight miners."""
    async with AsyncExitStack() as stack:
        operator = await stack.enter_async_context(operating(chain.url))
        await operator.set_hyperparameter(1, "weights_rate_limit", 0)
        uids = []
        for number in range(MINERS + 1):
            keys = open_wallet(f"//weights-{number}", "hotkey")
            gateway = SdkGateway(chain.url, 1, keys, timeout_seconds=60)
            stack.push_async_callback(gateway.close)
            await operator.fund(keys.coldkey.ss58_address, TAO)
            uids.append(await gateway.register())
        coldkey = keys.coldkey.ss58_address
        await operator.stake(coldkey=coldkey, hotkey=gateway.hotkey, netuid=1, rao=1000 * TAO)
        await operator.trigger_epoch(1)
        start = await gateway.block()
        async for block in gateway.heads():
            if block >= start + 3:
                break
        yield Subnet(chain, operator, gateway, uids[-1], uids[:-1])


async def stored(subnet: Subnet) -> dict[int, int]:
    """The validator's row as the chain stores it."""
    async with bt.Subtensor(subnet.chain.url) as client:
        row = await client.query(bt.storage.SubtensorModule.Weights, [1, subnet.uid])
        return {int(uid): int(value) for uid, value in row}


SHARES: Mapping[str, tuple[float, ...]] = {
    "one": (1.0,),
    "equal": (1.0,) * MINERS,
    "steep": (0.94, 0.03, 0.03),
    "falling": tuple(0.5**number for number in range(MINERS)),
    "tiny": (1.0, 8e-6, 1.6e-5, 1e-7, 0.3333333, 0.6666667),
    "odd": (0.123456789, 0.987654321, 0.555555555, 0.101010101, 0.777777777),
}
LIMITS = (OPEN, Limits(5, U16_MAX), Limits(5, 19660), Limits(1, 16384), Limits(7, 9363), Limits(1, 13107))


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("name", SHARES)
async def test_every_value_stands_on_chain_as_it_was_made(subnet: Subnet, name: str, limits: Limits) -> None:
    await subnet.operator.set_hyperparameter(1, "min_allowed_weights", limits.fewest)
    await subnet.operator.set_hyperparameter(1, "max_weights_limit", limits.largest)
    shares = dict(zip(subnet.miners, SHARES[name], strict=False))
    row = fit(shares, limits, own_uid=subnet.uid, owner_uid=0, reserves=subnet.miners)
    assert isinstance(row, Row)
    assert all(lower < higher for lower, higher in pairwise(row.values))
    await subnet.validator.set_weights(row.values, version_key=0)
    assert await stored(subnet) == dict(row.values)
