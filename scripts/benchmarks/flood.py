"""An attack on the sockets of a validator: slow bodies from many addresses, more of them than there are descriptors.

Server, attackers and honest callers are processes of their own, the server with 1,024 descriptors (`ulimit -n` of Debian and systemd).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from bittensor import http_auth
from fastapi import FastAPI

from gradients.axon.auth import MetagraphPolicy
from gradients.axon.descriptors import raise_limit
from gradients.axon.limits import ServerLimits
from gradients.axon.messages import AttemptStatus
from gradients.axon.serve import serving
from gradients.axon.server import requires_caller, signed_app
from gradients.bases.bases import BaseModels
from gradients.clock import SystemClock
from gradients.conditions.state import Conditions
from gradients.datasets.access import Access
from gradients.doctor.findings import Finding
from gradients.domain.customer import Scope
from gradients.execution.process import ProcessExecutor
from gradients.log import configure_logging
from gradients.repo.store import ContentStore
from gradients.testing.axons import keypair_of, metagraph_of, neuron_of, warm_nonces
from scripts.benchmarks.timing import Figure
from validator.api.app import api_app
from validator.api.dependencies import Dependencies, Quotas
from validator.api.rates import OwnRates
from validator.api.uploads import Uploads
from validator.board import Board
from validator.folders import Folders
from validator.ledger import Ledger
from validator.settings import ApiSettings, EstimateSettings
from validator.specs.estimates import Estimates
from validator.specs.intake import Intake
from validator.specs.rewards import RewardTrials

DESCRIPTORS = 1024
ATTACKERS, ADDRESSES = 1_200, 30
SECONDS = 25.0
HONEST_ADDRESSES = 8
REQUESTS_PER_SECOND = 40
HOST = "127.0.0.1"
SERVERS = ("axon", "api", "api without a key")


def slow_bodies() -> Sequence[Figure]:
    """Honest requests under attack, by server: answered, latency, log lines."""
    return [figure for server in SERVERS for figure in _attacked(server)]


def _attacked(server: str) -> list[Figure]:
    module = [sys.executable, "-m", "scripts.benchmarks.flood"]
    with tempfile.TemporaryFile() as log, contextlib.ExitStack() as running:
        serving_one = subprocess.Popen([*module, "serve", server], stdout=subprocess.PIPE, stderr=log, text=True)
        running.callback(_end, serving_one)
        assert serving_one.stdout is not None  # noqa: S101 (for the type checker: it is a pipe)
        place = json.loads(serving_one.stdout.readline())
        attackers = subprocess.Popen([*module, "attack", json.dumps(place)])
        running.callback(_end, attackers)
        time.sleep(3.0)  # until all of them are there
        taken = asyncio.run(_honest(place))
        _end(attackers)
        _end(serving_one)
        log.seek(0)
        lines = len(log.read().splitlines())
    answered = sorted(each for each in taken if each is not None)
    slowest = answered[int(len(answered) * 0.99)] if answered else float("nan")
    return [
        Figure(f"{server}: answered of {len(taken)}", "%", *[100 * len(answered) / len(taken)] * 3),
        Figure(f"{server}: median, fastest, slowest", "s", answered[len(answered) // 2], answered[0], answered[-1]),
        Figure(f"{server}: 99th of 100", "s", *[slowest] * 3),
        Figure(f"{server}: lines of log", "", *[float(lines)] * 3),
    ]


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    process.wait(30)


async def _honest(place: dict[str, Any]) -> list[float | None]:
    """Seconds of each request, None for one that was not answered; each over a connection of its own."""
    tasks = []
    for number in range(int(SECONDS * REQUESTS_PER_SECOND)):
        tasks.append(asyncio.create_task(_request(place, number)))
        await asyncio.sleep(1 / REQUESTS_PER_SECOND)
    return list(await asyncio.gather(*tasks))


async def _request(place: dict[str, Any], number: int) -> float | None:
    body = json.dumps({"text": str(number)}).encode()
    url = f"http://{HOST}:{place['port']}"
    started = time.perf_counter()
    try:
        ours = httpx.AsyncHTTPTransport(local_address=f"127.0.2.{number % HONEST_ADDRESSES + 1}")
        async with httpx.AsyncClient(timeout=10.0, trust_env=False, transport=ours) as client:
            if place["server"] == "axon":
                headers = {**_signed(body), "Content-Type": "application/json"}
                answer = await client.post(f"{url}/v1/echo", content=body, headers=headers)
            else:
                answer = await client.get(f"{url}/v1/tasks", headers={"Authorization": f"Bearer {place['key']}"})
    except httpx.HTTPError:
        return None
    return time.perf_counter() - started if answer.status_code == 200 else None


def _signed(body: bytes) -> dict[str, str]:
    ours, theirs = keypair_of("validator"), keypair_of("axon").ss58_address
    return dict(http_auth.sign(ours, method="POST", path="/v1/echo", body=body, receiver_ss58=theirs))


# ---- the attackers


async def attack(place: dict[str, Any]) -> None:
    """Slow bodies for ever; who is thrown out comes again."""
    raise_limit()
    headers = {"axon": _signed(b""), "api": {"Authorization": f"Bearer {place['key']}"}}.get(place["server"], {})
    path = "/v1/echo" if place["server"] == "axon" else "/v1/tasks"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    start = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n{lines}\r\n"
    await asyncio.gather(
        *(_drip(f"127.0.1.{n % ADDRESSES + 1}", place["port"], start.encode()) for n in range(ATTACKERS))
    )


async def _drip(source: str, port: int, start: bytes) -> None:
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(HOST, port, local_addr=(source, 0))
            try:
                writer.write(start)
                while not writer.is_closing():
                    await asyncio.sleep(3.0)
                    writer.write(b"[")
                    await writer.drain()
            finally:
                writer.transport.abort()
        await asyncio.sleep(1.0)


# ---- the server


async def serve(server: str) -> None:
    """A server with few descriptors, until it is ended; prints where it is."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    configure_logging(style="text")
    with tempfile.TemporaryDirectory() as folder:
        app, key, limits = _axon() if server == "axon" else api_in(Path(folder))
        async with serving(app, HOST, 0, limits=limits) as address:
            print(json.dumps({"server": server, "port": address.port, "key": key}), flush=True)
            await asyncio.Event().wait()


def _axon() -> tuple[FastAPI, str, ServerLimits]:
    metagraph = metagraph_of(neuron_of("validator", uid=0, validator_permit=True, stake_alpha=1000.0))
    limits = ServerLimits(requests_per_minute=1_000_000)
    policy = MetagraphPolicy(lambda: metagraph)
    app = signed_app(keypair=keypair_of("axon"), policy=policy, nonces=warm_nonces(), limits=limits)

    @app.post("/v1/echo", dependencies=[requires_caller])
    async def echo(message: dict[str, str]) -> dict[str, str]:
        return message

    return app, "", limits


class _NobodyTrains:
    """What miners say of tasks, where there are none."""

    def of(self, task_id: str, hotkey: str) -> AttemptStatus | None:
        """Nothing."""
        return None


def api_in(folder: Path, ledger_url: str | None = None) -> tuple[FastAPI, str, ServerLimits]:
    """An API whose files lie in the folder, a customer's key, and its server's limits; by default on SQLite."""
    ledger, folders, bases = (
        Ledger.open(ledger_url or f"sqlite:///{folder}/ledger.db", SystemClock()),
        Folders(folder),
        BaseModels.default(),
    )
    conditions = Conditions()
    conditions.update("ledger", [Finding("ledger", "ok", "answers")])
    behind = Dependencies(
        ledger=ledger,
        board=Board(ledger, _NobodyTrains()),
        intake=Intake(ledger, bases, folders, lambda: None),
        uploads=Uploads(folders.uploads, ledger.uploads, 1_000_000, 1_000_000),
        estimates=Estimates(bases, ProcessExecutor(), Access(), EstimateSettings()),
        rewards=RewardTrials(ProcessExecutor()),
        folders=folders,
        store=ContentStore(folders.blobs),
        conditions=conditions,
        rates=OwnRates(10_000_000),
        quotas=Quotas(running_tasks=1_000_000),
        stream_seconds=0.5,
    )
    return api_app(behind), ledger.customers.issue("acme", scopes=tuple(Scope)), ApiSettings().limits()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[2]) if sys.argv[1] == "serve" else attack(json.loads(sys.argv[2])))
