"""The example of a miner (examples/miner.py) against a real validator on a real chain: it is drawn, collected, measured, and wins."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from gradients.client.api import MarketClient
from gradients.client.models import TaskDetails
from gradients.localnet.demo import spec
from gradients.localnet.founding import found
from gradients.localnet.plan import Options, Plan, plan_market, write_settings
from gradients.localnet.supervisor import Supervisor

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

LOOK_SECONDS = 0.5
LONGEST_SECONDS = 900.0


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


async def test_the_example_of_a_miner_wins_a_task(tmp_path: Path) -> None:
    options = Options(
        folder=tmp_path,
        types=("instruct",),
        tasks=1,
        miners=1,
        seed=0,
        hours=0.012,
        block_seconds=0.5,
        tempo_blocks=20,
        base=None,
    )
    plan = plan_market(options)
    async with asyncio.timeout(LONGEST_SECONDS), Supervisor() as supervisor:
        await _start(plan, supervisor)
        task = await _ended(plan)
    (miner,) = task.miners
    assert (task.state, miner.recipe, miner.rank) == ("scored", "example", 1), miner.reason
    assert miner.gain is not None
    assert miner.gain > 0


async def _start(plan: Plan, supervisor: Supervisor) -> None:
    """The chain, everybody registered on it, the validator, and the example in the place of the miner."""
    options, (miner,) = plan.options, plan.miners
    chain = ["gradients.cli", "localchain", "--json", f"--port={plan.chain_port}", "--block-seconds=0.5", "--tempo=20"]
    await supervisor.start("chain", chain, log_file=options.folder / "chain.log")
    await _until_open("127.0.0.1", plan.chain_port)
    await found(plan)
    write_settings(plan)
    validator = ["gradients.cli", "validator", "run", "--config", str(plan.validator.settings_file)]
    await supervisor.start("validator", validator, log_file=options.folder / "validator.log")
    example = ["examples.miner", plan.chain_url, "1", miner.coldkey, miner.hotkey, miner.host, str(miner.port)]
    await supervisor.start("example", [*example, str(miner.folder)], log_file=options.folder / "example.log")
    await _until_open(miner.host, miner.port)
    async with httpx.AsyncClient() as http:
        while True:
            try:
                if (await http.get(f"{plan.api_url}/readyz")).is_success:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(LOOK_SECONDS)


async def _ended(plan: Plan) -> TaskDetails:
    """A task of the demonstration, when it has ended."""
    key = (plan.validator.folder / "api.key").read_text(encoding="utf-8").strip()
    with MarketClient(plan.api_url, key) as client:
        posted = await asyncio.to_thread(
            client.submit, spec("instruct", number=0, hours=plan.options.hours, base=plan.options.base)
        )
        return await asyncio.to_thread(lambda: [*client.watch(posted.id)][-1])


async def _until_open(host: str, port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(LOOK_SECONDS)
        else:
            writer.close()
            return
