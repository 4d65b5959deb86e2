"""Axons for tests: keys by name, metagraphs by hand, and a real server on loopback in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast

from bittensor import http_auth
from bittensor.sp_core import Keypair
from starlette.types import ASGIApp

from gradients.axon.auth import Nonces
from gradients.axon.client import Peer
from gradients.axon.limits import ServerLimits
from gradients.axon.serve import serving
from gradients.domain.chain import AxonAddress, Metagraph, Neuron
from gradients.domain.task import Hotkey

HOST = "127.0.0.2"  # the chain takes no 127.0.0.1


def keypair_of(name: str, *, crypto_type: int = 1) -> Any:  # noqa: ANN401 (bittensor's Keypair carries no types)
    """The development key //`name`; sr25519, or ed25519 with `crypto_type` 0."""
    return cast(Any, Keypair).create_from_uri(f"//{name}", crypto_type=crypto_type)


def neuron_of(
    name: str, *, uid: int, validator_permit: bool = False, stake_alpha: float = 0.0, axon: AxonAddress | None = None
) -> Neuron:
    """The neuron whose hotkey is //`name`."""
    return Neuron(
        uid=uid,
        hotkey=Hotkey(keypair_of(name).ss58_address),
        coldkey=keypair_of(f"{name}/cold").ss58_address,
        axon=axon,
        validator_permit=validator_permit,
        stake_alpha=stake_alpha,
        incentive=0.0,
        dividends=0.0,
        emission_alpha=0.0,
        last_update_block=0,
        registered_at_block=0,
    )


def metagraph_of(*neurons: Neuron) -> Metagraph:
    """A subnet of these neurons."""
    return Metagraph(
        netuid=1,
        block=100,
        tempo_blocks=360,
        last_epoch_block=0,
        neurons=neurons,
        owner_hotkey=neurons[0].hotkey,
        weights_version=0,
        weights_rate_limit_blocks=100,
        commit_reveal=False,
    )


def warm_nonces() -> Nonces:
    """The nonces of an axon that started a minute ago, so that it answers at once."""
    return Nonces(started_ns=time.time_ns() - 60 * 10**9)


@dataclass(frozen=True, slots=True)
class RunningAxon:
    """An axon that listens, and its key."""

    address: AxonAddress
    keypair: Any  # bittensor's Keypair carries no types

    @property
    def peer(self) -> Peer:
        """The axon as a client knows it."""
        return Peer(Hotkey(self.keypair.ss58_address), self.address)

    def signed_headers(
        self, path: str, *, method: str = "GET", body: bytes = b"", caller: str = "validator"
    ) -> dict[str, str]:
        """What a request of `caller` to this axon carries when it is in order."""
        receiver = self.keypair.ss58_address
        return dict(http_auth.sign(keypair_of(caller), method=method, path=path, body=body, receiver_ss58=receiver))


class StartAxon(Protocol):
    """Starts an axon with limits and a memory of nonces of the test's choice."""

    def __call__(self, *, limits: ServerLimits | None = None, nonces: Nonces | None = None) -> RunningAxon:
        """An axon that runs until the test ends."""
        ...


@contextlib.contextmanager
def serving_in_thread(
    app: ASGIApp,
    *,
    limits: ServerLimits = ServerLimits(),  # noqa: B008 (frozen)
    host: str = HOST,
) -> Iterator[AxonAddress]:
    """Serve `app` on a free port for the body."""
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    ready = threading.Event()
    addresses: list[AxonAddress] = []

    async def serve() -> None:
        async with serving(app, host, 0, limits=limits) as address:
            addresses.append(address)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(120), "The server did not start"  # noqa: S101
    try:
        yield addresses[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
