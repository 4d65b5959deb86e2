"""Every source that repos are read from keeps the same rules: a miner's axon over real HTTP, and the fake that tests use."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from fastapi import FastAPI, Request, Response

from gradients.axon.auth import MetagraphPolicy
from gradients.axon.client import AxonClient, Peer
from gradients.axon.limits import ClientLimits
from gradients.axon.server import file_response, requires_caller, signed_app
from gradients.domain.chain import AxonAddress
from gradients.errors import OutsideError, PeerRefused, PeerUnreachable
from gradients.repo.fetch import RepoReader, fetch_repo
from gradients.repo.store import ContentStore
from gradients.testing.axons import (
    HOST,
    RunningAxon,
    keypair_of,
    metagraph_of,
    neuron_of,
    serving_in_thread,
    warm_nonces,
)
from gradients.testing.repo_sources import Source, manifest_of, sha256_of

CONTENT = random.Random(3).randbytes(400_001)
FILES = {"model.safetensors": CONTENT, "config.json": b"{}", "README.md": b""}


@dataclass(frozen=True)
class AxonReader:
    """A miner's repo as the collecting stage reads it."""

    client: AxonClient
    peer: Peer

    def read(self, name: str, offset: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self.client.stream(self.peer, f"/v1/files/{name}", offset=offset)


def miners_app(folder: Path) -> FastAPI:
    """What of a miner's axon serves files."""
    metagraph = metagraph_of(neuron_of("validator", uid=0, validator_permit=True, stake_alpha=1.0))
    app = signed_app(keypair=keypair_of("axon"), policy=MetagraphPolicy(lambda: metagraph), nonces=warm_nonces())

    @app.get("/v1/files/{name}", dependencies=[requires_caller])
    async def content(name: str, request: Request) -> Response:
        if name not in FILES:
            raise PeerRefused(f"There is no file {name}", code="not_found")
        return file_response(folder / name, request, sha256=sha256_of(FILES[name]))

    return app


@contextlib.contextmanager
def cutting_wire(target: AxonAddress, cut_after: int) -> Iterator[AxonAddress]:
    """Passes connections on to `target`, and breaks each after `cut_after` bytes of answers."""
    listener = socket.create_server((HOST, 0))
    listener.settimeout(0.05)
    over = threading.Event()

    def carry(near: socket.socket) -> None:
        with near, socket.create_connection((target.ip, target.port), timeout=120) as far:
            far.sendall(near.recv(65536))  # a request's head, which comes in one piece
            left = cut_after
            while left > 0 and (piece := far.recv(min(left, 65536))):
                near.sendall(piece)
                left -= len(piece)

    def accept() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                carry(listener.accept()[0])

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield AxonAddress(HOST, int(listener.getsockname()[1]))
    finally:
        over.set()
        thread.join()
        listener.close()


OpenReader = Callable[[int | None], AbstractAsyncContextManager[RepoReader]]


@pytest.fixture(params=["fake", "axon"])
def open_reader(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenReader]:
    """Opens a source of FILES; given a number, its connections break after about so many bytes."""
    with ExitStack() as running:
        yield _fakes() if request.param == "fake" else _axons(tmp_path / "repo", running)


def _fakes() -> OpenReader:
    @contextlib.asynccontextmanager
    async def opened(cut_after: int | None) -> AsyncIterator[RepoReader]:
        yield Source(FILES, cut_after=cut_after)

    return opened


def _axons(folder: Path, running: ExitStack) -> OpenReader:
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    axon = RunningAxon(running.enter_context(serving_in_thread(miners_app(folder))), keypair_of("axon"))

    @contextlib.asynccontextmanager
    async def opened(cut_after: int | None) -> AsyncIterator[RepoReader]:
        client = AxonClient(keypair_of("validator"), allow_private=True, limits=ClientLimits(stall_seconds=60.0))
        with ExitStack() as wire:
            cut = None if cut_after is None else wire.enter_context(cutting_wire(axon.address, cut_after))
            try:
                yield AxonReader(client, replace(axon.peer, address=cut or axon.address))
            finally:
                await client.close()

    return opened


async def read(reader: RepoReader, name: str, offset: int = 0) -> bytes:
    async with reader.read(name, offset) as chunks:
        return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_whole(name: str, open_reader: OpenReader) -> None:
    async def act() -> bytes:
        async with open_reader(None) as reader:
            return await read(reader, name)

    assert asyncio.run(act()) == FILES[name]


@pytest.mark.parametrize("offset", [1, 262_144, len(CONTENT) - 1])
def test_a_file_is_read_from_an_offset(offset: int, open_reader: OpenReader) -> None:
    async def act() -> bytes:
        async with open_reader(None) as reader:
            return await read(reader, "model.safetensors", offset)

    assert asyncio.run(act()) == CONTENT[offset:]


def test_a_file_that_is_not_there_is_refused_and_nobodys_fault_yet(open_reader: OpenReader) -> None:
    async def act() -> None:
        async with open_reader(None) as reader:
            await read(reader, "other.safetensors")

    with pytest.raises(OutsideError) as caught:
        asyncio.run(act())

    assert caught.value.code == "not_found"


def test_a_connection_that_breaks_is_the_outsides_fault(open_reader: OpenReader) -> None:
    async def act() -> None:
        async with open_reader(100_000) as reader:
            await read(reader, "model.safetensors")

    with pytest.raises(PeerUnreachable):
        asyncio.run(act())


def test_a_repo_comes_whole_over_connections_that_break(open_reader: OpenReader, tmp_path: Path) -> None:
    store, manifest = ContentStore(tmp_path / "store"), manifest_of(FILES)

    async def act(cut_after: int | None) -> None:
        async with open_reader(cut_after) as reader:
            await fetch_repo(reader, manifest, store)

    for cut_after in (50_000, 2_000, 150_000):
        with pytest.raises(PeerUnreachable):
            asyncio.run(act(cut_after))
    asyncio.run(act(None))

    assert {name: store.check(file.sha256).read_bytes() for name, file in manifest.files.items()} == FILES
