"""A daemon's picture of the chain is as old as it says, and no older than it may be."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gradients.chain.view import STALE_SECONDS, ChainView
from gradients.errors import ChainUnreachable
from gradients.testing.clock import HandClock
from gradients.testing.fake_chain import FakeChain

pytestmark = pytest.mark.anyio

REFRESH_SECONDS = 12.0


async def started(chain: FakeChain, clock: HandClock) -> ChainView:
    view = ChainView(chain.gateway("watcher"), clock, refresh_seconds=REFRESH_SECONDS)
    await view.start()
    return view


async def test_a_view_starts_with_the_newest_block_and_the_metagraph() -> None:
    chain = FakeChain()
    await chain.advance(3)
    view = await started(chain, HandClock())
    assert view.block == 3
    assert view.metagraph() == chain.graph


async def test_waiting_for_a_block_ends_when_it_stands() -> None:
    chain = FakeChain()
    view = await started(chain, HandClock())
    async with asyncio.TaskGroup() as group:
        following = group.create_task(view.follow())
        waiting = group.create_task(view.wait_for_block(2))
        await chain.advance(1)
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await chain.advance(1)
        assert await waiting == 2
        following.cancel()


@pytest.mark.parametrize(("seconds", "is_read_again"), [(REFRESH_SECONDS, False), (REFRESH_SECONDS + 1, True)])
async def test_the_metagraph_is_read_again_when_it_is_older_than_it_should_be(
    seconds: float, is_read_again: bool
) -> None:
    chain, clock = FakeChain(), HandClock()
    view = await started(chain, clock)
    before = view.metagraph()
    chain.change(replace(chain.graph.neurons[0], incentive=1.0))
    clock.time += seconds
    await _follow_one_block(view, chain)
    assert (view.metagraph() != before) == is_read_again


async def test_no_epoch_passes_without_a_metagraph_of_its_own() -> None:
    """Epochs of 20 s are shorter than the 30 s that a metagraph may be old by default."""
    chain, clock = FakeChain(tempo_blocks=20, block_seconds=1.0), HandClock()
    view = ChainView(chain.gateway("watcher"), clock)
    await view.start()
    following, seen = asyncio.create_task(view.follow()), set[int]()
    for _ in range(100):
        await asyncio.sleep(0)
        clock.time += 1
        await chain.advance(1)
        await view.wait_for_block(chain.graph.block)
        await asyncio.sleep(0)
        seen.add(view.metagraph().last_epoch_block)
    following.cancel()
    assert seen == {0, 20, 40, 60, 80, 100}


async def test_a_metagraph_is_not_read_with_every_block_where_epochs_do_not_come() -> None:
    """Of a subnet that has not been started, say."""
    chain, clock = FakeChain(tempo_blocks=20, is_started=False), HandClock()
    view = await started(chain, clock)
    for _ in range(60):
        await _follow_one_block(view, chain)
    assert view.metagraph().block == 21


async def test_a_metagraph_that_cannot_be_read_is_kept_until_it_is_too_old() -> None:
    chain, clock = FakeChain(), HandClock()
    view = await started(chain, clock)
    before = view.metagraph()
    chain.outage = ChainUnreachable("a test unplugged the chain")
    clock.time += STALE_SECONDS
    await _follow_one_block(view, chain)
    assert view.metagraph() == before
    clock.time += 1
    with pytest.raises(ChainUnreachable, match="601 s ago"):
        view.metagraph()
    chain.outage = None
    await _follow_one_block(view, chain)
    assert view.metagraph().block > before.block


async def _follow_one_block(view: ChainView, chain: FakeChain) -> None:
    following = asyncio.create_task(view.follow())
    await asyncio.sleep(0)  # let it subscribe
    await chain.advance(1)
    await view.wait_for_block(chain.graph.block)
    for _ in range(20):  # turns of the loop: let it read
        await asyncio.sleep(0)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
