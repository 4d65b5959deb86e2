"""An axon to attack: a real server on loopback, patient unless a test asks for short limits to run into."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict

from gradients.axon.auth import CallerPolicy, MetagraphPolicy, Nonces
from gradients.axon.limits import ServerLimits
from gradients.axon.server import file_response, requires_caller, signed_app
from gradients.testing.axons import (
    RunningAxon,
    StartAxon,
    keypair_of,
    metagraph_of,
    neuron_of,
    serving_in_thread,
    warm_nonces,
)

CONTENT = random.Random(7).randbytes(700_001)
LIMITS = ServerLimits(
    body_bytes=100_000,
    header_seconds=60.0,
    keep_alive_seconds=60.0,
    body_seconds=60.0,
    requests_per_minute=600,
    connections_per_address=64,
)


class Echo(BaseModel):
    """What goes in and comes out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str


def registered_policy(*, min_stake_alpha: float = 100.0) -> MetagraphPolicy:
    """Validators only: one in order, one poor; a miner; nobody else."""
    metagraph = metagraph_of(
        neuron_of("validator", uid=0, validator_permit=True, stake_alpha=1000.0),
        neuron_of("poor", uid=1, validator_permit=True, stake_alpha=99.0),
        neuron_of("miner", uid=2, stake_alpha=5000.0),
    )
    return MetagraphPolicy(lambda: metagraph, validators_only=True, min_stake_alpha=min_stake_alpha)


def attacked_app(file: Path, *, policy: CallerPolicy, nonces: Nonces, limits: ServerLimits) -> FastAPI:
    """Routes as daemons have them: a message, a file, one that takes its time, and one that breaks."""
    app = signed_app(keypair=keypair_of("axon"), policy=policy, nonces=nonces, limits=limits)

    @app.post("/v1/echo", dependencies=[requires_caller])
    async def echo(message: Echo) -> Echo:
        return message

    @app.get("/v1/file", dependencies=[requires_caller])
    async def content(request: Request) -> Response:
        return file_response(file, request, sha256=hashlib.sha256(CONTENT).hexdigest())

    @app.get("/v1/slow", dependencies=[requires_caller])
    async def slow() -> None:
        await asyncio.sleep(2 * limits.header_seconds)

    @app.get("/v1/broken", dependencies=[requires_caller])
    async def broken() -> None:
        raise RuntimeError("the secret of this machine")

    return app


@pytest.fixture(scope="module")
def start_axon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartAxon]:
    """Starts an axon that ends with the file of tests."""
    file = tmp_path_factory.mktemp("axon") / "content.bin"
    file.write_bytes(CONTENT)
    with ExitStack() as running:

        def start(*, limits: ServerLimits | None = None, nonces: Nonces | None = None) -> RunningAxon:
            limits = limits or LIMITS
            app = attacked_app(file, policy=registered_policy(), nonces=nonces or warm_nonces(), limits=limits)
            return RunningAxon(running.enter_context(serving_in_thread(app, limits=limits)), keypair_of("axon"))

        yield start


@pytest.fixture(scope="module")
def axon(start_axon: StartAxon) -> RunningAxon:
    """An axon that has been up for a while, and stays up whatever a file of tests does to it."""
    return start_axon()
