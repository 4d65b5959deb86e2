"""What people and peers wait for before any model is touched."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial

from gradients.axon.auth import MetagraphPolicy
from gradients.axon.client import AxonClient, Peer
from gradients.axon.limits import ServerLimits
from gradients.axon.server import requires_caller, signed_app
from gradients.domain.task import Hotkey
from gradients.tasks.jobs.message import WorkerMessage
from gradients.testing.axons import keypair_of, metagraph_of, neuron_of, serving_in_thread, warm_nonces
from scripts.benchmarks.timing import Figure, figure, seconds_of

RUNS = 7
ROUND_TRIPS = 200


def help_text() -> Sequence[Figure]:
    """The first thing that anybody runs, and the first of a customer."""
    return [
        figure(
            " ".join(("gradients", *arguments)),
            "s",
            seconds_of(partial(_python, "-m", "gradients.cli", *arguments), runs=RUNS),
        )
        for arguments in (("--help",), ("task", "--help"))
    ]


def imports() -> Sequence[Figure]:
    """Start-up and memory of the daemons' control plane."""
    script = "import sys, resource, {module}; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    figures = []
    for module in ("validator.wiring", "miner.wiring"):
        code = script.format(module=module)
        figures.append(figure(f"import {module}", "s", seconds_of(partial(_python, "-c", code), runs=3)))
        figures.append(figure(f"memory after import {module}", "MiB", [float(_python("-c", code))]))
    return figures


def silent_chain() -> Sequence[Figure]:
    """Doctors beside a chain that takes connections and says nothing, and one that nobody listens for."""
    figures = []
    with socket.socket() as mute, tempfile.TemporaryDirectory() as home:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        for what, port in (("silent", mute.getsockname()[1]), ("absent", 1)):
            for role in ("validator", "miner"):
                chain = (
                    f"--network=ws://127.0.0.1:{port}",
                    "-w",
                    "//Doctor",
                    "-H",
                    "//Doctor",
                    "--axon-host=127.0.0.2",
                )
                asked = [sys.executable, "-m", "gradients.cli", role, "doctor", *chain, f"--folder={home}/daemon"]
                run = partial(subprocess.run, asked, capture_output=True, check=False)
                figures.append(figure(f"gradients {role} doctor, {what} chain", "s", seconds_of(run, runs=RUNS)))
    return figures


class Echo(WorkerMessage):
    """What goes out and comes back."""

    text: str


def signed_round_trip() -> Sequence[Figure]:
    """A signed request over loopback, checked, answered, and the answer's signature checked."""
    metagraph = metagraph_of(neuron_of("validator", uid=0, validator_permit=True, stake_alpha=1000.0))
    limits = ServerLimits(requests_per_minute=100 * ROUND_TRIPS)
    policy = MetagraphPolicy(lambda: metagraph)
    app = signed_app(keypair=keypair_of("axon"), policy=policy, nonces=warm_nonces(), limits=limits)

    @app.post("/v1/echo", dependencies=[requires_caller])
    async def echo(message: Echo) -> Echo:
        return message

    taken = []

    async def round_trips(peer: Peer) -> None:
        client = AxonClient(keypair_of("validator"), allow_private=True)
        try:
            for _ in range(ROUND_TRIPS):
                started = time.perf_counter()
                await client.post(peer, "/v1/echo", Echo(text="hello"), answer=Echo)
                taken.append(time.perf_counter() - started)
        finally:
            await client.close()

    with serving_in_thread(app, limits=limits) as address:
        asyncio.run(round_trips(Peer(Hotkey(keypair_of("axon").ss58_address), address)))
    return [figure("signed round trip", "ms", [seconds * 1000 for seconds in taken])]


def _python(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stdout
