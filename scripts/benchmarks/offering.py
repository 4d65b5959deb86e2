"""A round of offers to 256 miners, 50 of which are no good: a real validator's step over HTTP on loopback, until the drawn have started.

A quarter of the 50 can never be connected to (their queue of connections is full), a quarter refuses, a quarter takes the connection and
says nothing, and a quarter sends one byte a second of an answer that never ends. The 206 others answer, signed, from one process of
their own on the same cores, so that a real validator has more of a core for itself. BENCH_ROUNDS, 5 by default, says how often.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import NamedTuple, cast

from starlette.types import ASGIApp, Receive, Scope, Send

from gradients.axon.auth import Caller, MetagraphPolicy
from gradients.axon.client import AxonClient
from gradients.axon.limits import ServerLimits
from gradients.axon.messages import Offer, OfferAnswer, Start, StartAnswer
from gradients.axon.serve import serving
from gradients.axon.server import requires_caller, signed_app
from gradients.chain.view import ChainView
from gradients.clock import SystemClock
from gradients.domain.chain import AxonAddress
from gradients.domain.submission import SubmissionState
from gradients.domain.task import Blob, Hotkey, Prepared, TaskId, TaskRequest, TaskState
from gradients.testing.axons import keypair_of, metagraph_of, neuron_of, warm_nonces
from gradients.testing.fake_chain import FakeChain
from scripts.benchmarks.timing import Figure, figure
from validator.ledger import Ledger
from validator.settings import CollectSettings, OfferSettings
from validator.stages.offer import OfferStage

MINERS, BAD, ROUNDS = 256, 50, 5
PORT, BAD_PORT = 18_091, 18_092
PREPARED = Prepared("b" * 64, 1_500_000, Blob("c" * 64, 10), Blob("d" * 64, 5), 90, 10, "e" * 64, ())


class Round(NamedTuple):
    """What one came to."""

    seconds: float
    accepted: int
    started: int


def offers() -> Iterator[Figure]:
    """Whole steps, each with a task of its own."""
    rounds = int(os.environ.get("BENCH_ROUNDS", ROUNDS))
    made = asyncio.run(_rounds(rounds, bad=BAD))
    yield figure(f"{MINERS} miners, {BAD} of them dead or dripping: a round", "s", [each.seconds for each in made])
    yield figure(f"yes of {MINERS - BAD}", "miners", [float(each.accepted) for each in made])
    yield figure(f"started of {OfferSettings().pool_size} drawn", "miners", [float(each.started) for each in made])
    alone = asyncio.run(_rounds(rounds, bad=0))
    yield figure(f"{MINERS} miners, all of them good: a round", "s", [each.seconds for each in alone])


async def _rounds(count: int, *, bad: int) -> list[Round]:
    us, chain = keypair_of("validator"), FakeChain()
    seat = chain.seat(Hotkey(us.ss58_address), coldkey="ours")
    chain.change(replace(seat, validator_permit=True, stake_alpha=1000.0))
    for number in range(MINERS):
        neuron = chain.seat(Hotkey(keypair_of(f"miner {number}").ss58_address), coldkey=str(number))
        chain.change(replace(neuron, axon=_address(number, BAD_PORT if number < bad else PORT)))
    gateway, clock = chain.gateway(us.ss58_address), SystemClock()
    view, client = ChainView(gateway, clock), AxonClient(us, allow_private=True)
    await view.start()
    with tempfile.TemporaryDirectory() as folder, _miners(bad):
        ledger = Ledger.open(f"sqlite:///{folder}/ledger.db", clock)
        stage = OfferStage(ledger, gateway, view, client, clock, OfferSettings(), CollectSettings())
        made = [await _round(stage, TaskId(f"instruct-{number:012x}")) for number in range(count)]
        await client.close()
        ledger.engine.dispose()
    return made


async def _round(stage: OfferStage, task_id: TaskId) -> Round:
    tasks = stage.ledger.tasks
    request = TaskRequest("instruct", "tiny", {"kind": "file", "path": "rows.jsonl"}, {}, 1.0)
    tasks.create(task_id, request, customer="acme", salt=b"s" * 32)
    if (draft := tasks.claim([TaskState.DRAFT], owner="us", block=10**6, lease_seconds=60)) is not None:
        tasks.advance(draft.lease, came_from=TaskState.DRAFT, to=TaskState.OPEN, prepared=PREPARED)
    claim = tasks.claim([TaskState.OPEN], owner="us", block=10**6, lease_seconds=60)
    assert claim is not None  # noqa: S101 (it was just made)
    began = time.perf_counter()
    await stage.run(claim)
    seconds = time.perf_counter() - began
    states = [each.state for each in stage.ledger.submissions.of_task(task_id)]
    drawn = tasks.find(task_id)
    accepted = cast(Sequence[str], ((drawn and drawn.draw) or {}).get("accepted", ()))
    return Round(seconds, len(accepted), states.count(SubmissionState.STARTED))


def _address(number: int, port: int = PORT) -> AxonAddress:
    return AxonAddress(ip=f"127.3.{number // 128}.{number % 128 + 1}", port=port)


@contextmanager
def _miners(bad: int) -> Iterator[None]:
    """All of them; the bad ones have the first numbers."""
    with ExitStack() as running:
        process = subprocess.Popen(
            [sys.executable, "-m", "scripts.benchmarks.offering", str(bad)], stdout=subprocess.PIPE, text=True
        )
        running.callback(process.wait, 30)
        running.callback(process.terminate)
        assert process.stdout is not None  # noqa: S101 (for the type checker: it is a pipe)
        json.loads(process.stdout.readline())
        yield


# ---- the miners' process


async def serve(bad: int) -> None:
    """All miners, until the process is ended; says when they are there."""
    with ExitStack() as held:
        for number in range(bad):
            if number % 4 == 0:
                held.enter_context(_full_queue(_address(number, BAD_PORT)))
            elif number % 4 == 1:
                await asyncio.start_server(_mute, _address(number).ip, BAD_PORT)
            elif number % 4 == 2:
                await asyncio.start_server(
                    _drip, _address(number).ip, BAD_PORT
                )  # and of the last quarter nobody listens
        async with _good(range(bad, MINERS)):
            print(json.dumps({"miners": MINERS}), flush=True)
            await asyncio.Event().wait()


@contextmanager
def _full_queue(address: AxonAddress) -> Iterator[None]:
    """An address at which the kernel drops whoever wants to connect."""
    with ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.ip, address.port))
        listener.listen(0)
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect((address.ip, address.port))
        yield


async def _mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    while await reader.read(1000):
        pass


async def _drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b" " * 1_000_000:
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(1.0)


@asynccontextmanager
async def _good(numbers: range) -> AsyncIterator[None]:
    """One listener for all addresses of these miners; which of them is meant says the address that was called."""
    apps: dict[str, ASGIApp] = {_address(number).ip: _app(number) for number in numbers}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await apps[scope["server"][0]](scope, receive, send)

    limits = ServerLimits(connections_per_address=10_000, requests_per_minute=1_000_000)
    async with serving(app, "0.0.0.0", PORT, limits=limits):  # noqa: S104 (on many addresses of loopback, from outside it has no caller)
        yield


def _app(number: int) -> ASGIApp:
    """A miner that wants everything."""
    metagraph = metagraph_of(neuron_of("validator", uid=0, validator_permit=True, stake_alpha=1000.0))
    policy = MetagraphPolicy(lambda: metagraph)
    limits = ServerLimits(requests_per_minute=1_000_000)
    app = signed_app(keypair=keypair_of(f"miner {number}"), policy=policy, nonces=warm_nonces(), limits=limits)

    @app.post("/v1/offers")
    async def offer(message: Offer, caller: Caller = requires_caller) -> OfferAnswer:
        return OfferAnswer(accepted=True, recipe="lora-tuned")

    @app.post("/v1/tasks")
    async def start(message: Start, caller: Caller = requires_caller) -> StartAnswer:
        return StartAnswer(accepted=True)

    return app


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
