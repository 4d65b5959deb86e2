"""Weights under fire: answers are lost, inclusion is late, chain and validators die; each epoch's weights land exactly once all the same.

Two validators and eight miners on a real chain process, through the real SDK. The test writes what was scored into both ledgers, one task
an epoch; what that pays is the rules' affair. An epoch ends when the test says so, once all calls are done: no machine is too slow for it.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import bittensor as bt
import pytest
from sqlalchemy.orm import Session

from gradients.chain.sdk import SdkGateway
from gradients.chain.view import ChainView
from gradients.chain.wallet import WalletKeys, open_wallet
from gradients.clock import SystemClock
from gradients.domain.evaluation import Placing
from gradients.domain.task import Hotkey, Task, TaskId, TaskState, Window
from gradients.localchain.operator import operating
from gradients.testing.chain_process import ChainProcess, chain_process
from gradients.testing.lossy_wire import Fate, Loss, lossy_wire
from tests.unit.validator.market import claimed, draft
from validator.ledger import Ledger
from validator.ledger.outbox import OutboxState
from validator.ledger.placings import add_placings
from validator.pay.emission import Emission
from validator.settings import EmissionSettings

pytestmark = [pytest.mark.fault, pytest.mark.anyio]

TAO = 10**9
MINERS, VALIDATORS = 8, 2
BLOCK_SECONDS, TEMPO = 0.1, 50_000  # longer than any test: an epoch ends by `next_epoch`
CALL_SECONDS = 3.0
SPREAD_BLOCKS = 14  # from an epoch's beginning, over which calls are spread
LOST_ANSWERS = 0.3
LATEST_BLOCKS = 4  # that a transaction is on its way to the chain
LINGERING_BLOCKS = 10  # of an epoch whose calls are done: one that came twice would show
EPOCHS_PER_DEATH = 9  # of the chain, and of each validator
LONGEST_EPOCH_SECONDS = 300.0


DECIDED = list(OutboxState)  # the call is known, whatever has become of it
SETTINGS = EmissionSettings(spread=SPREAD_BLOCKS / TEMPO)


@dataclass
class Validator:
    """A validator's emission with its ledger, through a wire of its own; it can be killed and started at any moment."""

    keys: WalletKeys
    url: str
    ledger: Ledger
    uid: int = 0
    deaths: int = 0
    _running: asyncio.Task[None] | None = None

    @property
    def hotkey(self) -> str:
        return str(self.keys.hotkey.ss58_address)

    def start(self) -> None:
        self._running = asyncio.create_task(self._run())

    async def kill(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self.deaths += 1

    async def _run(self) -> None:
        gateway = SdkGateway(self.url, 1, self.keys, timeout_seconds=CALL_SECONDS)
        view = ChainView(gateway, SystemClock(), refresh_seconds=4 * BLOCK_SECONDS, start_seconds=60.0)
        emission = Emission(self.ledger, gateway, view, SystemClock(), settings=SETTINGS)
        try:
            while True:
                with suppress(Exception):  # the chain may be away at the moment
                    await view.start()
                    break
                await asyncio.sleep(BLOCK_SECONDS)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(view.follow())
                tasks.create_task(emission.run())
        finally:
            await gateway.close()


@dataclass
class Epoch:
    """What the chain shows when an epoch ends: how often each validator has called by then, its row, and everybody's incentive."""

    calls: list[int]
    rows: list[dict[int, int]]
    incentive: list[float]


@dataclass
class Market:
    """The chain, and what a test saw on it. Epochs are named by the block in which they began."""

    chain: ChainProcess
    validators: list[Validator]
    miners: list[Hotkey]
    chance: random.Random
    epochs: dict[int, Epoch] = field(default_factory=dict)
    chain_deaths: int = 0
    transactions: Counter[str] = field(default_factory=Counter)
    scored: int = 0

    def weather(self) -> Fate:
        loss = Loss.ANSWER if self.chance.random() < LOST_ANSWERS else Loss.NOTHING
        self.transactions[loss.name] += 1
        return Fate(loss, self.chance.uniform(0, LATEST_BLOCKS) * BLOCK_SECONDS)

    def score(self, *, block: int) -> None:
        """One more scored task, the same in every ledger."""
        self.scored += 1
        gains = {miner: self.chance.random() for miner in self.chance.sample(self.miners, 4)}
        points = {miner: gain / sum(gains.values()) for miner, gain in gains.items()}
        for validator in self.validators:
            task_id = TaskId(f"instruct-{self.scored:012x}")
            draft(validator.ledger, task_id=task_id)
            claim = claimed(validator.ledger, TaskState.DRAFT, block=block)
            task = replace(claim.task, window=Window(block - 2, block - 1, block))
            places = [Placing(miner, 1, part, part, "", gain=gains[miner]) for miner, part in points.items()]

            def add(session: Session, task: Task = task, places: Sequence[Placing] = places) -> None:
                add_placings(session, task, places, rules_version=2, factor=1.0, now=0.0)

            validator.ledger.tasks.advance(claim.lease, came_from=TaskState.DRAFT, to=TaskState.SCORED, also=add)

    async def restart_chain(self) -> None:
        self.chain.kill()
        await asyncio.to_thread(self.chain.start)
        self.chain_deaths += 1


async def test_every_epochs_weights_land_once_and_incentive_follows_them(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    await run_under_fire(tmp_path, int(request.config.getoption("--epochs")), fewest=1, largest=1.0)


async def test_so_they_do_on_a_subnet_with_a_minimum_of_five_and_a_maximum_of_three_tenths(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    market = await run_under_fire(tmp_path, int(request.config.getoption("--epochs")), fewest=5, largest=0.3)
    for epoch in list(market.epochs.values())[1:]:
        for row in epoch.rows:
            assert len(row) >= 5
            assert max(row.values()) / sum(row.values()) <= 0.3
            assert max(row.values()) == 65535


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _sdk_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITTENSOR_RUNTIME_CACHE_DIR", str(tmp_path / "sdk-cache"))


async def run_under_fire(folder: Path, epochs: int, *, fewest: int, largest: float) -> Market:
    async with market_of(folder, fewest=fewest, largest=largest) as market:
        client = await connected(market.chain.url)
        try:
            await play(market, client, epochs)
        finally:
            await client.close()
        await asyncio.gather(*(validator.kill() for validator in market.validators))
        check(market, epochs)
        return market


async def play(market: Market, client: Any, epochs: int) -> None:  # noqa: ANN401 (bittensor's Client)
    """Let epochs pass, with one more task and now and then a death in each, and write down what the chain shows."""
    last = await last_epoch(client)
    market.score(block=last)
    for validator in market.validators:
        validator.start()
    async with asyncio.timeout(LONGEST_EPOCH_SECONDS):
        while not are_in(market, last, DECIDED):  # the epoch that was triggered last may not have begun yet
            await asyncio.sleep(BLOCK_SECONDS)
            last = await last_epoch(client)
    market.score(block=last)  # an epoch without another verdict would send nothing
    for number in range(epochs + 1):
        begun = await next_epoch(market, client, last)
        if number:
            market.epochs[last] = await seen_at(client, market, begun)
        last = begun
        await all_calls(market, begun, DECIDED)
        market.score(block=begun)  # counts from the next epoch on
        if number % EPOCHS_PER_DEATH == 4:
            await asyncio.sleep(market.chance.uniform(0, SPREAD_BLOCKS) * BLOCK_SECONDS)
            await market.restart_chain()
        if number % EPOCHS_PER_DEATH == 7:
            await asyncio.sleep(market.chance.uniform(0, SPREAD_BLOCKS) * BLOCK_SECONDS)
            victim = market.chance.choice(market.validators)
            await victim.kill()
            victim.start()


async def next_epoch(market: Market, client: Any, last: int) -> int:  # noqa: ANN401 (bittensor's Client)
    """The epoch after `last`, which ends when all its calls are done; one that never are, `check` will tell of."""
    with suppress(TimeoutError):
        await all_calls(market, last, [OutboxState.DONE])
    await asyncio.sleep(LINGERING_BLOCKS * BLOCK_SECONDS)
    async with operating(market.chain.url) as operator:
        await operator.trigger_epoch(1)
    async with asyncio.timeout(LONGEST_EPOCH_SECONDS):
        while (begun := await last_epoch(client)) == last:  # noqa: ASYNC110 (the chain's state has no event)
            await asyncio.sleep(BLOCK_SECONDS)
    return begun


async def all_calls(market: Market, epoch: int, states: Sequence[OutboxState]) -> None:
    """Wait until every validator's call of an epoch is in one of `states`."""
    async with asyncio.timeout(LONGEST_EPOCH_SECONDS):
        while not are_in(market, epoch, states):  # noqa: ASYNC110 (a ledger has no event)
            await asyncio.sleep(BLOCK_SECONDS)


def are_in(market: Market, epoch: int, states: Sequence[OutboxState]) -> bool:
    key = f"weights:{epoch}"
    last = ([call for call in each.ledger.outbox.all(limit=3) if call.key == key] for each in market.validators)
    return all(calls and calls[0].state in states for calls in last)


def check(market: Market, epochs: int) -> None:
    """Once an epoch: by the ledger, by the chain's count of transactions, and by the row that stands there at the end."""
    ends = list(market.epochs)
    assert len(ends) == epochs
    states, changes, wrong = Counter[str](), Counter[str](), list[str]()
    for index, validator in enumerate(market.validators):
        calls = {call.key: call for call in validator.ledger.outbox.all()}
        for before, epoch in pairwise([None, *ends]):
            assert epoch is not None
            call, seen = calls[f"weights:{epoch}"], market.epochs[epoch]
            sent: Any = call.sent or {"uids": [], "values": [], "changes": {}}  # Any: JSON
            states[call.state] += 1
            changes.update(sent["changes"])
            called = 1 if before is None else seen.calls[index] - market.epochs[before].calls[index]
            stands = seen.rows[index] == dict(zip(sent["uids"], sent["values"], strict=True))
            if (call.state, called, stands) != (OutboxState.DONE, 1, True):
                wrong.append(
                    f"validator {index}, epoch {epoch}: {call.state}, {called} calls, {stands}: {call.problem}"
                )
    apart = max(incentive_error(epoch) for epoch in market.epochs.values())
    summary = {
        "epochs": epochs,
        "states": dict(states),
        "transactions": dict(market.transactions),
        "chain_deaths": market.chain_deaths,
        "validator_deaths": sum(each.deaths for each in market.validators) - VALIDATORS,  # all die in the end
        "changes": dict(changes),
        "rows_alike": sum(epoch.rows[0] == epoch.rows[1] for epoch in market.epochs.values()),
        "largest_incentive_error": round(apart, 6),
        "wrong": wrong,
    }
    print(json.dumps(summary))  # noqa: T201 (what a run for the record is for)
    assert wrong == []
    assert apart < 1e-4


def incentive_error(epoch: Epoch) -> float:
    """The largest difference of anybody's incentive from what both validators gave; the rows are alike, so consensus is each of them."""
    rows = [{uid: value / sum(row.values()) for uid, value in row.items()} for row in epoch.rows]
    uids = range(len(epoch.incentive))
    low = [min(row.get(uid, 0.0) for row in rows) for uid in uids]
    high = [max(row.get(uid, 0.0) for row in rows) for uid in uids]
    return max(max(low[uid] - epoch.incentive[uid], epoch.incentive[uid] - high[uid]) for uid in uids)


async def last_epoch(client: Any) -> int:  # noqa: ANN401 (as above)
    return int(await reading(client, bt.storage.SubtensorModule.LastEpochBlock, [1]))


async def seen_at(client: Any, market: Market, block: int) -> Epoch:  # noqa: ANN401 (as above)
    """What stands in the block that ends an epoch; rows and calls as the epoch found them."""
    st = bt.storage
    calls, rows = [], []
    for validator in market.validators:
        account = await reading(client, st.System.Account, [validator.hotkey], block=block - 1)
        calls.append(int(account["nonce"]))
        row = await reading(client, st.SubtensorModule.Weights, [1, validator.uid], block=block - 1)
        rows.append({int(uid): int(value) for uid, value in row})
    incentive = await reading(client, st.SubtensorModule.Incentive, [1], block=block)
    return Epoch(calls, rows, [int(value) / 65535 for value in incentive])


async def reading(client: Any, item: Any, keys: list[Any], *, block: int | None = None) -> Any:  # noqa: ANN401 (as above)
    """What the chain stores, however often it takes to ask while the chain is away."""
    async with asyncio.timeout(LONGEST_EPOCH_SECONDS):
        while True:
            with suppress(bt.BittensorError, OSError):
                async with asyncio.timeout(5 * CALL_SECONDS):
                    return await client.query(item, keys, block=block)
            await asyncio.sleep(BLOCK_SECONDS)


async def connected(url: str) -> Any:  # noqa: ANN401 (as above)
    client: Any = bt.Subtensor(url, retry_forever=True)
    return await client.__aenter__()


@asynccontextmanager
async def market_of(folder: Path, *, fewest: int, largest: float) -> AsyncIterator[Market]:
    """Everybody has a seat, both validators have a permit and equal stakes, and the wires are good until the market plays."""
    chance = random.Random(11)
    async with AsyncExitStack() as stack:
        chain = stack.enter_context(
            chain_process(folder / "chain", f"--block-seconds={BLOCK_SECONDS}", f"--tempo={TEMPO}")
        )
        market = Market(chain, [], [], chance)
        async with operating(chain.url) as operator:
            await operator.set_hyperparameter(1, "min_allowed_weights", fewest)
            await operator.set_hyperparameter(1, "max_weights_limit", round(largest * 65535 - 0.5))
            for number in range(VALIDATORS + MINERS):
                keys = open_wallet(f"//fire-{number}", "hotkey")
                await operator.fund(keys.coldkey.ss58_address, TAO)
                gateway = SdkGateway(chain.url, 1, keys, timeout_seconds=60.0)
                uid = await gateway.register()
                await gateway.close()
                if number >= VALIDATORS:
                    market.miners.append(gateway.hotkey)
                    continue
                await operator.stake(coldkey=keys.coldkey.ss58_address, hotkey=gateway.hotkey, netuid=1, rao=1000 * TAO)
                wire = await stack.enter_async_context(lossy_wire(chain.url, market.weather))
                ledger = Ledger.open(f"sqlite:///{folder}/ledger-{number}.db", SystemClock())
                stack.callback(ledger.engine.dispose)
                market.validators.append(Validator(keys, wire.url, ledger, uid))
            await operator.trigger_epoch(1)
        yield market
