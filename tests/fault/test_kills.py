"""SIGKILL of validator, miners and chain at random moments of a run: the market goes on, and nothing is done twice."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from pathlib import Path

import bittensor as bt
import pytest

from gradients.domain.task import TaskState
from gradients.localnet.market import Market
from gradients.localnet.plan import Options, Plan, plan_market
from gradients.localnet.screen import PlainScreen
from gradients.localnet.snapshot import Snapshot
from gradients.localnet.supervisor import Supervisor

pytestmark = pytest.mark.fault

SECONDS_BETWEEN_KILLS = 7.0
MOST_SHOTS_PER_KILL = 3
LONGEST_RUN_SECONDS = 900.0


def test_a_market_survives_kills_and_does_nothing_twice(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    kills = int(request.config.getoption("--kills"))
    options = Options(
        folder=tmp_path,
        types=("instruct",),
        tasks=1,
        miners=2,
        seed=7,
        hours=0.012 + kills * SECONDS_BETWEEN_KILLS / 3600 * 0.7,
        block_seconds=1.0,
        tempo_blocks=10,
        base=None,
    )
    plan = plan_market(options)
    snapshot, killed, sets, calls = asyncio.run(_run_under_fire(plan, kills))

    assert sum(killed.values()) == kills
    assert {"validator", "miner-1", "chain"} <= set(killed), f"not everybody was killed: {dict(killed)}"
    assert [task.state for task in snapshot.tasks] == [TaskState.SCORED]
    _check_ledger(plan)
    assert sets, "no weights were set"
    assert sets.total() <= calls, f"{calls} calls were sent, and set weights in these epochs: {sets}"
    # A call that a busy machine held up between two lines may land in the next epoch, which has its own.
    assert all(count <= (1 if sets[epoch - 1] else 2) for epoch, count in [*sets.items()]), f"set too often: {sets}"


async def _run_under_fire(plan: Plan, kills: int) -> tuple[Snapshot, Counter[str], Counter[int], int]:
    """The last picture, how often each process was killed, how often weights were set in each epoch, and calls that were sent."""
    async with Supervisor() as supervisor, asyncio.timeout(LONGEST_RUN_SECONDS):
        market = Market.of(plan, supervisor, PlainScreen().show)
        shooting = asyncio.create_task(_shoot(market, kills))
        snapshot = await market.run()
        killed = await shooting
        first, calls = _weights_decided(plan)
        return snapshot, killed, await _weights_set_by_epoch(plan, range(first, snapshot.block + 1)), calls


async def _shoot(market: Market, kills: int) -> Counter[str]:
    """Kill processes from the first task on: chain, validator and a miner first, then random ones. The dead don't count."""
    generator = random.Random(market.plan.options.seed)
    killed: Counter[str] = Counter()
    while not market.snapshot.tasks:  # noqa: ASYNC110 (the picture of a market has no event)
        await asyncio.sleep(0.2)
    for _ in range(MOST_SHOTS_PER_KILL * kills):
        if killed.total() == kills:
            break
        await asyncio.sleep(generator.uniform(0.3, 1.7) * SECONDS_BETWEEN_KILLS)
        children = {child.name: child for child in market.supervisor.children}
        first = [name for name in ("validator", "miner-1", "chain") if not killed[name]]
        name = first[0] if first else generator.choice(sorted(children))
        if children[name].process.returncode is None:
            children[name].process.kill()
            killed[name] += 1
    return killed


def _check_ledger(plan: Plan) -> None:
    """Everything that counts happened once."""
    ledger = sqlite3.connect(plan.validator.folder / "ledger.db")
    events = ledger.execute("SELECT name, json_extract(fields, '$.to'), json_extract(fields, '$.entrant') FROM events")
    happened = Counter(events.fetchall())
    assert happened["task_advanced", "scored", None] == 1
    assert {count for (name, _, _), count in happened.items() if name == "entrant_measured"} == {1}
    assert ledger.execute("SELECT COUNT(*) FROM placings").fetchone() == (plan.options.miners,)
    measured = ledger.execute("SELECT entrant, value FROM measurements").fetchall()
    assert "base" in dict(measured)
    assert len(measured) >= 2, "no miner was measured"
    twice = ledger.execute(
        "SELECT fields, COUNT(*) FROM events WHERE name = 'call_done' GROUP BY fields HAVING COUNT(*) > 1"
    )
    assert twice.fetchall() == []


def _weights_decided(plan: Plan) -> tuple[int, int]:
    """The first block in which weights were decided on, and how many calls were sent."""
    ledger = sqlite3.connect(plan.validator.folder / "ledger.db")
    first, calls = ledger.execute("SELECT MIN(decided_at_block), COUNT(sent_at_block) FROM outbox").fetchone()
    return int(first), int(calls)


async def _weights_set_by_epoch(plan: Plan, blocks: range) -> Counter[int]:
    """epoch -> number of WeightsSet events on chain, read block by block; the chain has forgotten what is long ago."""
    found: Counter[int] = Counter()
    async with bt.Subtensor(plan.chain_url) as client:
        for block in blocks:
            for record in await client.query(bt.storage.System.Events, [], block=block) or []:
                if "WeightsSet" in str(record):
                    index = await client.query(bt.storage.SubtensorModule.SubnetEpochIndex, [1], block=block)
                    found[int(index)] += 1
    return found
