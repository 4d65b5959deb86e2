"""What daemons take while there is nothing to do: a real validator and a real miner on a chain of this machine, no task, nobody who asks.

Memory is what the kernel counts for a process and all below it. RSS counts a page that several processes share in each of them, PSS only
this process's part of it: the chain, miner and validator of this run share Python and libraries, so one alone has a PSS near its RSS.
CPU is processor time, which does not depend on what else the machine does, over time of the clock. BENCH_SECONDS, 600 by default, is how
long they are watched; BENCH_BLOCK_SECONDS, 12 by default as on public networks, how often the chain has a block.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import httpx

from gradients.localchain.operator import operating
from gradients.localnet.founding import found
from gradients.localnet.plan import Options, Participant, Plan, plan_market, write_settings
from gradients.testing.chain_process import chain_process
from scripts.benchmarks.timing import Figure, figure

SECONDS, BLOCK_SECONDS, TEMPO_BLOCKS = 600.0, 12.0, 360
SETTLE_SECONDS = 30.0  # from an answer to the first look: what starting leaves behind is no part of idling
LOOKS = 20
START_SECONDS = 300.0


class Look(NamedTuple):
    """A process and all below it at one moment."""

    at: float  # seconds of a clock that never goes back
    cpu_seconds: float
    rss_mib: float
    pss_mib: float


def idle() -> Iterator[Figure]:
    """Memory and processor time of each daemon, while nothing happens."""
    seconds, block_seconds = (
        float(os.environ.get(name, default))
        for name, default in (("BENCH_SECONDS", SECONDS), ("BENCH_BLOCK_SECONDS", BLOCK_SECONDS))
    )
    with tempfile.TemporaryDirectory() as folder, _running(Path(folder), block_seconds) as daemons:
        time.sleep(min(SETTLE_SECONDS, seconds))
        looks: dict[str, list[Look]] = {name: [look(process)] for name, process in daemons.items()}
        for _ in range(LOOKS):
            time.sleep(seconds / LOOKS)
            for name, process in daemons.items():
                looks[name].append(look(process))
    for name, of_one in looks.items():
        yield figure(f"{name}: RSS", "MiB", [each.rss_mib for each in of_one])
        yield figure(f"{name}: PSS", "MiB", [each.pss_mib for each in of_one])
        yield Figure(f"{name}: CPU over {seconds:g} s, blocks of {block_seconds:g} s", "%", *_percent(of_one))


def look(process: int) -> Look:
    """What the process and all below it have taken until now."""
    rss = pss = cpu = 0.0
    for each in _family(process):
        with suppress(OSError):  # a child that has just ended: from then on its time is its parent's
            memory = dict(
                re.findall(r"^(Rss|Pss): +(\d+) kB$", (each / "smaps_rollup").read_text(), flags=re.MULTILINE)
            )
            times = (
                (each / "stat").read_text().rpartition(")")[2].split()[11:15]
            )  # own and ended children's, user and system
            rss, pss = rss + int(memory["Rss"]) / 1024, pss + int(memory["Pss"]) / 1024
            cpu += sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
    return Look(time.monotonic(), cpu, rss, pss)


def _family(process: int) -> list[Path]:
    """The process and all below it, as folders of /proc."""
    found = [Path("/proc", str(process))]
    for each in found:
        with suppress(OSError):
            below = " ".join(file.read_text() for file in each.glob("task/*/children"))
            found += [Path("/proc", child) for child in below.split()]
    return found


def _percent(looks: list[Look]) -> tuple[float, float, float]:
    """Of one core: over the whole time, then in the quietest and the busiest part of it."""
    parts = [100 * (b.cpu_seconds - a.cpu_seconds) / (b.at - a.at) for a, b in pairwise(looks)]
    first, last = looks[0], looks[-1]
    return 100 * (last.cpu_seconds - first.cpu_seconds) / (last.at - first.at), min(parts), max(parts)


@contextmanager
def _running(folder: Path, block_seconds: float) -> Iterator[Mapping[str, int]]:
    """Both daemons, once both answer."""
    asked = Options(
        folder=folder,
        types=("instruct",),
        tasks=0,
        miners=1,
        seed=7,
        hours=1.0,
        block_seconds=block_seconds,
        tempo_blocks=TEMPO_BLOCKS,
        base=None,
    )
    plan = plan_market(asked)
    chain_flags = (f"--port={plan.chain_port}", f"--block-seconds={block_seconds}", f"--tempo={TEMPO_BLOCKS}")
    with chain_process(folder / "chain", *chain_flags) as chain, ExitStack() as running:
        asyncio.run(_found(plan))
        write_settings(plan)
        miner = plan.miners[0]
        processes = {
            "validator": running.enter_context(_daemon("validator", plan.validator)),
            "miner": running.enter_context(_daemon("miner", miner)),
        }
        _wait(f"{plan.api_url}/readyz")
        _wait(f"http://{miner.host}:{miner.port}/livez")
        yield {**processes, "local chain": chain.process_id}


async def _found(plan: Plan) -> None:
    await found(plan)
    async with operating(plan.chain_url) as operator:
        await operator.trigger_epoch(1)  # with which the validator has its permit


@contextmanager
def _daemon(role: str, who: Participant) -> Iterator[int]:
    command = [sys.executable, "-m", "gradients.cli", role, "run", "-c", str(who.settings_file)]
    with (who.folder / "daemon.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _wait(url: str) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        with suppress(httpx.HTTPError):
            if httpx.get(url, timeout=2.0, trust_env=False).is_success:
                return
        time.sleep(0.2)
    sys.exit(f"{url} did not answer within {START_SECONDS:.0f} s")
