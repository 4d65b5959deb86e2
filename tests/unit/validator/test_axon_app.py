"""What miners can fetch from a validator: train rows of running tasks, and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gradients.axon.auth import MetagraphPolicy
from gradients.axon.client import AxonClient, Peer
from gradients.axon.serve import serving
from gradients.axon.server import signed_app
from gradients.domain.task import Blob, TaskState
from gradients.errors import PeerRefused
from gradients.repo.store import ContentStore
from gradients.testing.axons import keypair_of, warm_nonces
from gradients.testing.clock import HandClock
from tests.unit.validator.market import HOST, PREPARED, StandIn, Subnet, claimed, opened
from validator.axon_app import add_data_route
from validator.ledger import Ledger

TRAIN, HELD_OUT = b"train rows\n" * 100, b"held-out rows\n"
Fetch = Callable[[bytes], Awaitable[bytes]]


@pytest.fixture
def store(tmp_path: Path, ledger: Ledger) -> ContentStore:
    """A store with both sides of a task in OPEN."""
    store = ContentStore(tmp_path / "blobs")
    for content in (TRAIN, HELD_OUT):
        file = tmp_path / "file"
        file.write_bytes(content)
        store.add_file(file)
    opened(ledger, prepared=replace(PREPARED, train=_blob(TRAIN), held_out=_blob(HELD_OUT)))
    return store


def _blob(content: bytes) -> Blob:
    return Blob(hashlib.sha256(content).hexdigest(), len(content))


def _as_miner(
    ledger: Ledger, store: ContentStore, ask: Callable[[Fetch], Awaitable[None]], *, name: str = "alice"
) -> None:
    """Run `ask` with a way to fetch from the validator's axon as the miner `name`; only alice is registered."""

    async def scenario() -> None:
        subnet = Subnet(HandClock())
        await subnet.start(StandIn("alice"))
        app = signed_app(keypair=subnet.keypair, policy=MetagraphPolicy(subnet.view.metagraph), nonces=warm_nonces())
        add_data_route(app, ledger=ledger, store=store)
        client = AxonClient(keypair_of(name), allow_private=True)
        async with serving(app, HOST, 0) as address:
            peer = Peer(subnet.gateway.hotkey, address)

            async def fetch(content: bytes) -> bytes:
                async with client.stream(peer, f"/v1/data/{_blob(content).sha256}") as chunks:
                    return b"".join([chunk async for chunk in chunks])

            await ask(fetch)
            await client.close()

    asyncio.run(scenario())


def test_a_miner_gets_the_train_rows_of_a_running_task(ledger: Ledger, store: ContentStore) -> None:
    async def ask(fetch: Fetch) -> None:
        assert await fetch(TRAIN) == TRAIN

    _as_miner(ledger, store, ask)


def test_held_out_rows_are_not_there_for_anybody(ledger: Ledger, store: ContentStore) -> None:
    async def ask(fetch: Fetch) -> None:
        with pytest.raises(PeerRefused) as caught:
            await fetch(HELD_OUT)
        assert caught.value.code == "not_found"

    _as_miner(ledger, store, ask)


def test_train_rows_are_not_given_out_after_the_task(ledger: Ledger, store: ContentStore) -> None:
    lease = claimed(ledger, TaskState.OPEN).lease
    ledger.tasks.advance(lease, came_from=TaskState.OPEN, to=TaskState.COLLECTED)

    async def ask(fetch: Fetch) -> None:
        with pytest.raises(PeerRefused):
            await fetch(TRAIN)

    _as_miner(ledger, store, ask)


def test_strangers_get_nothing(ledger: Ledger, store: ContentStore) -> None:
    async def ask(fetch: Fetch) -> None:
        with pytest.raises(PeerRefused) as caught:
            await fetch(TRAIN)
        assert caught.value.code == "not_registered"

    _as_miner(ledger, store, ask, name="stranger")
