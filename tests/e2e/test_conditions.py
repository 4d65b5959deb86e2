"""The five conditions that a subnet can take from running daemons, taken one after the other: told, mended where it can be, and got over.

A real chain, a real validator and a real miner, each a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from gradients.axon.ports import free_ports
from gradients.chain.sdk import SdkGateway
from gradients.chain.wallet import open_wallet
from gradients.domain.chain import AxonAddress
from gradients.localchain.operator import operating
from gradients.testing.chain_process import ChainProcess, chain_process

pytestmark = pytest.mark.slow

BLOCK_SECONDS = 0.25
REFRESH_SECONDS = 0.5
PATIENCE_SECONDS = 600.0
STAKE_RAO = 10**11
UNREACHABLE_STAKE_RAO = 10**15
HOST = "127.0.0.2"
ELSEWHERE = AxonAddress("127.0.0.3", 8555)
ROWS = [{"prompt": f"Say {number}", "completion": f"{number}"} for number in range(100)]


@dataclass(frozen=True)
class Running:
    """A daemon, and where it tells how it is."""

    name: str
    folder: Path
    axon: AxonAddress
    url: str
    page_url: str  # of a miner's own page

    def ready(self) -> tuple[int, dict[str, Any]]:
        answer = httpx.get(f"{self.url}/readyz", timeout=120, trust_env=False)
        return answer.status_code, answer.json()

    def missing(self) -> set[str]:
        code, said = self.ready()
        names = {each["name"] for each in said["conditions"] if each["level"] == "missing"}
        assert (code, said["ready"]) == ((503, False) if names else (200, True)) or not said["conditions"]
        return names

    def metrics(self) -> str:
        return httpx.get(f"{self.url}/metrics", timeout=120, trust_env=False).text

    def figure(self, condition: str) -> str | None:
        start = f'gradients_condition_ok{{condition="{condition}"}} '
        return next((line.removeprefix(start) for line in self.metrics().splitlines() if line.startswith(start)), None)

    def said(self, event: str) -> list[Mapping[str, Any]]:
        lines = (self.folder / "log").read_text(encoding="utf-8").splitlines()
        return [line for line in map(json.loads, lines) if line["event"] == event]


@dataclass(frozen=True)
class Market:
    chain: ChainProcess
    validator: Running
    miner: Running
    home: Path

    def operate(self, *changes: tuple[str, int], epoch: bool = False, fund: str | None = None) -> None:
        async def change() -> None:
            async with operating(self.chain.url) as operator:
                for name, value in changes:
                    await operator.set_hyperparameter(1, name, value)
                if fund is not None:
                    await operator.fund(fund, 10**12)
                if epoch:
                    await operator.trigger_epoch(1)

        asyncio.run(change())

    def as_(self, who: str, *, register: bool = False, publish: AxonAddress | None = None) -> None:
        """Let another process of this hotkey do something."""

        async def act() -> None:
            gateway = SdkGateway(self.chain.url, 1, open_wallet(f"//{who}", f"//{who}//hot"))
            try:
                if register:
                    await gateway.register()
                if publish is not None:
                    await gateway.publish_axon(publish)
            finally:
                await gateway.close()

        asyncio.run(act())

    def axon_of(self, running: Running) -> AxonAddress | None:
        async def look() -> AxonAddress | None:
            who = running.name.capitalize()
            gateway = SdkGateway(self.chain.url, 1, open_wallet(f"//{who}", f"//{who}//hot"))
            try:
                neuron = (await gateway.metagraph()).by_hotkey(gateway.hotkey)
            finally:
                await gateway.close()
            return neuron.axon if neuron else None

        return asyncio.run(look())


def until(condition: Callable[[], bool], what: str) -> None:
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, what
        time.sleep(0.1)


@contextmanager
def daemon(name: str, chain: ChainProcess, home: Path) -> Iterator[Running]:
    folder = home / name
    folder.mkdir(mode=0o700)
    (port,), (told_at, page_port) = free_ports(HOST, 1), free_ports("127.0.0.1", 2)
    section = "api" if name == "validator" else "monitoring"
    settings = folder / "settings.toml"
    settings.write_text(
        f'folder = "{folder}"\nallow_local_paths = true\n'
        f'[chain]\nnetwork = "{chain.url}"\nrefresh_seconds = {REFRESH_SECONDS}\n'
        f'[wallet]\nname = "//{name.capitalize()}"\nhotkey = "//{name.capitalize()}//hot"\n'
        f'[axon]\nhost = "{HOST}"\nport = {port}\n[{section}]\nport = {told_at}\n[log]\nstyle = "json"\n'
        + (f"[page]\nport = {page_port}\n" if name == "miner" else "")
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("GRADIENTS_", "BT_"))}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gradients.cli", name, "run", "--config", str(settings)],
            stderr=log,
            env=clean | {"HOME": str(home), "OMP_NUM_THREADS": "1"},
        )
    running = Running(
        name, folder, AxonAddress(HOST, port), f"http://127.0.0.1:{told_at}", f"http://127.0.0.1:{page_port}/"
    )

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return not running.missing()
        except httpx.HTTPError:
            return False

    try:
        until(answers, f"the {name} is ready")
        yield running
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    home = tmp_path_factory.mktemp("market")
    keys = open_wallet("//Validator", "//Validator//hot")
    flags = (f"--block-seconds={BLOCK_SECONDS}", "--tempo=50000")  # epochs run when the test says so
    with chain_process(home / "chain", *flags) as chain:
        coldkey, hotkey = keys.coldkey.ss58_address, keys.hotkey.ss58_address

        async def found() -> None:
            for who in ("Validator", "Miner"):
                gateway = SdkGateway(chain.url, 1, open_wallet(f"//{who}", f"//{who}//hot"))
                await gateway.register()
                await gateway.close()
            async with operating(chain.url) as operator:
                await operator.stake(coldkey=coldkey, hotkey=hotkey, netuid=1, rao=STAKE_RAO)
                await operator.trigger_epoch(1)

        asyncio.run(found())
        with daemon("validator", chain, home) as validator, daemon("miner", chain, home) as miner:
            yield Market(chain, validator, miner, home)


@pytest.mark.parametrize(("role", "most_mib"), [("validator", 200), ("miner", 150)])
def test_a_daemon_without_work_is_small(market: Market, role: str, most_mib: int) -> None:
    """What `scripts/bench idle` watches for ten minutes, its processor time too."""
    running: Running = getattr(market, role)
    [resident] = re.findall(r"^process_resident_memory_bytes (\S+)$", running.metrics(), flags=re.MULTILINE)
    assert 20 < float(resident) / 2**20 < most_mib


@pytest.mark.parametrize("role", ["validator", "miner"])
def test_an_axon_that_a_second_process_took_is_taken_back(market: Market, role: str) -> None:
    running: Running = getattr(market, role)
    market.as_(role.capitalize(), publish=ELSEWHERE)
    until(lambda: bool(running.said("axon_taken_over")), "the change is told")
    until(lambda: market.axon_of(running) == running.axon, "the daemon's own address stands on chain again")
    until(lambda: running.missing() == set(), "it is ready again")
    taken, *_ = running.said("axon_taken_over")  # the SDK may have to try again: the other process has used its nonce
    assert (taken["level"], taken["stands"]) == ("warning", ELSEWHERE.url())
    assert "end the other process" in taken["remedy"]


@pytest.mark.parametrize("role", ["validator", "miner"])
def test_a_running_daemon_serves_the_figures_of_the_page(market: Market, role: str) -> None:
    running: Running = getattr(market, role)
    until(lambda: "gradients_disk_free_bytes 0.0" not in running.metrics(), "the first figures are taken")
    served = set(re.findall(r"^# TYPE (gradients_\w+) ", running.metrics(), flags=re.MULTILINE))
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(gradients_\w+)` \|[^|]*\| (\w+) \|", page, flags=re.MULTILINE)
    assert {name for name in served if not name.endswith("_created")} == {
        name for name, whose in rows if whose in (role, "both")
    }
    assert f'gradients_info{{daemon="{role}"' in running.metrics()
    assert 'gradients_condition_ok{condition="registered"} 1.0' in running.metrics()


def test_stake_that_is_not_enough_is_told_and_got_over(market: Market) -> None:
    market.operate(("stake_threshold", UNREACHABLE_STAKE_RAO))
    until(lambda: market.validator.missing() == {"stake"}, "the stake is missing")
    assert market.validator.figure("stake") == "0.0"
    market.operate(("stake_threshold", 0))
    until(lambda: market.validator.missing() == set(), "it is ready again")
    assert market.validator.figure("stake") == "1.0"


def test_without_a_permit_a_task_waits_quietly_with_the_reason_and_is_offered_when_there_is_one(market: Market) -> None:
    market.operate(("stake_threshold", UNREACHABLE_STAKE_RAO), epoch=True)
    until(lambda: market.validator.missing() == {"stake", "permit"}, "the permit is missing")
    key = (market.validator.folder / "api.key").read_text(encoding="utf-8").strip()
    rows = market.home / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    spec = {
        "type": "instruct",
        "base": "nano-lm",
        "dataset": str(rows),
        "parameters": {"columns": {"instruction": "prompt", "output": "completion"}},
        "hours": 0.01,
    }
    with httpx.Client(
        base_url=market.validator.url, headers={"Authorization": f"Bearer {key}"}, timeout=120, trust_env=False
    ) as api:
        posted = api.post("/v1/tasks", json=spec)
        assert posted.status_code == 201, posted.text
        path = f"/v1/tasks/{posted.json()['id']}"
        until(lambda: api.get(path).json()["state"] == "open", "the task is prepared")
        assert "permit: none" in api.get(path).json()["note"]
        time.sleep(6 * REFRESH_SECONDS)
        assert [line for line in market.validator.said("step_started") if line["state"] == "open"] == []
        market.operate(("stake_threshold", 0), epoch=True)
        until(lambda: bool(market.validator.said("offer_answered")), "the task is offered")
        assert "permit" not in api.get(path).json()["note"]
    [broken] = [line for line in market.validator.said("condition_broken") if line["condition"] == "permit"]
    assert "btcli stake add" in broken["remedy"]


def test_a_chain_that_stands_still_is_told_and_got_over(market: Market) -> None:
    with market.chain.frozen():
        for running in (market.validator, market.miner):
            until(lambda running=running: "chain" in running.missing(), "the chain is missing")  # type: ignore[misc]
            assert httpx.get(f"{running.url}/livez", timeout=120, trust_env=False).status_code == 200
        page = httpx.get(market.miner.page_url, timeout=120, trust_env=False).text
        assert re.search(r"<strong>chain</strong>: .*<br>What to do: see whether the node behind", page)
    for running in (market.validator, market.miner):
        until(lambda running=running: running.missing() == set(), "it is ready again")  # type: ignore[misc]


def test_a_seat_that_is_lost_is_told(market: Market) -> None:
    newcomer = open_wallet("//Newcomer", "//Newcomer//hot").coldkey.ss58_address
    market.operate(("immunity_period", 0), ("min_non_immune_uids", 0), ("max_allowed_uids", 3), fund=newcomer)
    market.as_("Newcomer", register=True)
    both = (market.validator, market.miner)
    until(lambda: any(each.missing() for each in both), "a seat is missing")
    [loser] = [each for each in both if each.missing()]  # whom the chain has chosen
    assert loser.missing() == {"registered"}
    [broken] = [line for line in loser.said("condition_broken") if line["condition"] == "registered"]
    assert "gradients register" in broken["remedy"]
