"""Tasks, submissions and miners for the tests of the validator's steps."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import resource
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from safetensors.numpy import save

from gradients.axon.auth import MetagraphPolicy
from gradients.axon.client import AxonClient
from gradients.axon.limits import ClientLimits
from gradients.axon.messages import AttemptStatus, Offer, OfferAnswer, Reveal, Start, StartAnswer
from gradients.axon.serve import serving
from gradients.axon.server import file_response, requires_caller, signed_app
from gradients.axon.transport import HEADER_FILE
from gradients.bases.bases import BaseModels
from gradients.chain.gateway import ChainGateway
from gradients.chain.view import ChainView
from gradients.clock import Clock
from gradients.domain.chain import AxonAddress
from gradients.domain.commitment import Opening, payload
from gradients.domain.submission import Submission, SubmissionState
from gradients.domain.task import Blob, Hotkey, Prepared, Task, TaskId, TaskRequest, TaskState, Window
from gradients.errors import PeerRefused
from gradients.repo.manifest import TrainingSummary, describe_folder
from gradients.testing.axons import keypair_of, warm_nonces
from gradients.testing.fake_chain import FakeChain, FakeGateway
from gradients.testing.tiny_models import write_tiny_llama
from validator.engine import StepEngine
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.lease import Claim
from validator.ledger.submissions import add_submissions

TASK = TaskId("instruct-0123456789ab")
SALT = b"s" * 32
PREPARED = Prepared(
    base_digest="b" * 64,
    base_parameters=1_500_000,
    train=Blob("c" * 64, 10),
    held_out=Blob("d" * 64, 5),
    train_rows=90,
    held_out_rows=10,
    held_out_commitment="e" * 64,
    removed=(),
)
WINDOW = Window(started_at_block=10, deadline_block=20, reveal_until_block=30)
NOWHERE = Folders(Path("nowhere"))  # of validators that keep no files
HOST = "127.0.0.2"
PATIENCE_SECONDS = 120.0
SILENT_SECONDS = 3600.0  # longer than anybody waits
PATIENT = ClientLimits(answer_seconds=120.0, connect_seconds=60.0)  # a machine that stands still is nobody's silence


def request_for(base: str = "tiny", dataset: str = "rows.jsonl", *, hours: float = 0.01) -> TaskRequest:
    return TaskRequest(
        type="instruct", base=base, dataset={"kind": "file", "path": dataset}, parameters={}, hours=hours
    )


def claimed(ledger: Ledger, state: TaskState, *, owner: str = "one", block: int = 10_000) -> Claim:
    """The task that is due in `state`, leased."""
    claim = ledger.tasks.claim([state], owner=owner, block=block, lease_seconds=15)
    assert claim is not None
    return claim


def draft(ledger: Ledger, request: TaskRequest | None = None, *, task_id: TaskId = TASK) -> Task:
    return ledger.tasks.create(task_id, request or request_for(), customer="acme", salt=SALT)


def opened(
    ledger: Ledger, request: TaskRequest | None = None, *, prepared: Prepared = PREPARED, task_id: TaskId = TASK
) -> None:
    """A task in OPEN."""
    draft(ledger, request, task_id=task_id)
    lease = claimed(ledger, TaskState.DRAFT).lease
    ledger.tasks.advance(lease, came_from=TaskState.DRAFT, to=TaskState.OPEN, prepared=prepared)


def assigned(
    ledger: Ledger,
    hotkeys: Sequence[str],
    request: TaskRequest | None = None,
    *,
    prepared: Prepared = PREPARED,
    task_id: TaskId = TASK,
    window: Window = WINDOW,
    axons: Mapping[str, AxonAddress] = MappingProxyType({}),
    our_stake_alpha: float | None = None,
) -> None:
    """A task in ASSIGNED that these miners have started, at these addresses; uids count from 1."""
    opened(ledger, request, prepared=prepared, task_id=task_id)
    invited = [
        Submission(task_id, Hotkey(hotkey), uid, SubmissionState.INVITED) for uid, hotkey in enumerate(hotkeys, start=1)
    ]
    lease = claimed(ledger, TaskState.OPEN).lease
    ledger.tasks.set_window(lease, window, draw={}, also=lambda session: add_submissions(session, invited))
    for hotkey in hotkeys:
        ledger.submissions.started(lease, hotkey, axon=axons.get(hotkey), our_stake_alpha=our_stake_alpha)
    due = window.deadline_block + 1
    ledger.tasks.advance(lease, came_from=TaskState.OPEN, to=TaskState.ASSIGNED, due_at_block=due)


def collected(
    ledger: Ledger,
    hotkeys: Sequence[str],
    request: TaskRequest | None = None,
    *,
    prepared: Prepared = PREPARED,
    task_id: TaskId = TASK,
) -> None:
    """A task in COLLECTED with a repo of each of these miners, the first one committed first."""
    assigned(ledger, hotkeys, request, prepared=prepared, task_id=task_id)
    lease = claimed(ledger, TaskState.ASSIGNED).lease
    for block, hotkey in enumerate(hotkeys, start=11):
        ledger.submissions.collected(lease, hotkey, manifest="{}", manifest_sha256="f" * 64, committed_at_block=block)
    ledger.tasks.advance(lease, came_from=TaskState.ASSIGNED, to=TaskState.COLLECTED)


def found(ledger: Ledger, task_id: str = TASK) -> Task:
    task = ledger.tasks.find(task_id)
    assert task is not None
    return task


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """No file grows beyond the size that the ledger's log in `folder` has now, so that the ledger's next write fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((folder / "ledger.db-wal").stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def failures(ledger: Ledger, task_id: str = TASK) -> dict[str, tuple[str, str]]:
    """hotkey -> whose fault and which code, of the submissions that have failed."""
    submissions = ledger.submissions.of_task(task_id)
    return {s.hotkey: (s.failure.blame.value, s.failure.code) for s in submissions if s.failure}


async def until(condition: Callable[[], bool], *, each_time: Callable[[], None] = lambda: None) -> None:
    """Wait for something that happens elsewhere."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            each_time()
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(engine: StepEngine) -> AsyncIterator[None]:
    """The engine at work."""
    loop = asyncio.create_task(engine.run())
    try:
        yield
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


def tiny_bases(folder: Path) -> BaseModels:
    """One shipped base called "tiny"."""
    write_tiny_llama(folder / "bases" / "tiny")
    return BaseModels(shipped=folder / "bases", cache=folder / "cache", folders=True)


@dataclass
class Subnet:
    """A chain in memory that a validator and some miners see."""

    clock: Clock
    chain: FakeChain = field(default_factory=FakeChain)
    keypair: Any = field(default_factory=lambda: keypair_of("validator"))  # bittensor's Keypair carries no types

    def __post_init__(self) -> None:
        self.gateway: FakeGateway = self.chain.gateway(self.keypair.ss58_address)
        self.view = ChainView(self.gateway, self.clock)
        self.clients: list[AxonClient] = []

    def client(self) -> AxonClient:
        """The validator's; `serving` closes it."""
        self.clients.append(AxonClient(self.keypair, allow_private=True, limits=PATIENT))
        return self.clients[-1]

    async def start(self, *miners: StandIn, permit: bool = True) -> None:
        """Seat the validator, then the miners."""
        await self.gateway.register()
        neuron = self.chain.graph.by_hotkey(self.gateway.hotkey)
        assert neuron is not None
        self.chain.change(replace(neuron, validator_permit=permit, stake_alpha=1000.0))
        for miner in miners:
            await self.chain.gateway(miner.hotkey).register()
        await self.view.start()

    async def reach(self, block: int) -> None:
        """Let blocks pass until `block`."""
        await self.chain.advance(max(block - self.chain.graph.block, 0))
        await self.view.start()

    @contextlib.asynccontextmanager
    async def serving(self, *miners: StandIn) -> AsyncIterator[None]:
        """The miners' axons, published; the validator's connections to them are closed afterwards."""
        async with contextlib.AsyncExitStack() as stack:
            for miner in miners:
                address = await stack.enter_async_context(serving(miner.app(self.view), HOST, 0))
                await self.chain.gateway(miner.hotkey).publish_axon(address)
            await self.view.start()
            yield
            for client in self.clients:
                await client.close()


class Gateways(Protocol):
    """A chain to which everybody has a way."""

    def gateway(self, hotkey: str, /) -> ChainGateway:
        """This hotkey's."""
        ...


class Reached(Protocol):
    """A subnet as miners need it to hand something in: one in memory, or one of a real chain."""

    @property
    def gateway(self) -> ChainGateway:
        """The validator's."""
        ...

    @property
    def chain(self) -> Gateways:
        """Everybody's."""
        ...


@dataclass
class StandIn:
    """A miner's axon that answers as it is told."""

    name: str
    accepts: bool = True
    fetches: int = 0  # so many offers are answered by a no for now
    begins: bool = True
    words: str = ""  # said in place of the usual ones, as raw JSON, which no model of ours has mended
    silent_seconds: float = 0.0
    lost_starts: int = 0  # so many of the first answers are spoilt on their way
    is_mute: bool = False  # what it is told to start it never answers
    file_seconds: float = 0.0
    reveal: Reveal | None = None
    status: AttemptStatus | None = None
    validators_only: bool = False
    min_stake_alpha: float = 0.0  # of those
    files: Mapping[str, Path] = field(default_factory=dict)
    offers: list[Offer] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    served: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keypair = keypair_of(self.name)
        self.hotkey = Hotkey(self.keypair.ss58_address)

    def app(self, view: ChainView) -> FastAPI:
        policy = MetagraphPolicy(view.metagraph, self.validators_only, self.min_stake_alpha)
        app = signed_app(keypair=self.keypair, policy=policy, nonces=warm_nonces())

        @app.post("/v1/offers", dependencies=[requires_caller], response_model=None)
        async def offer(message: Offer, request: Request) -> OfferAnswer | Response:
            self.offers.append(message)
            await _silence(request, self.silent_seconds)
            if self.words:
                return self._said(accepted=self.accepts, recipe=self.words, reason=self.words)
            if len(self.offers) <= self.fetches:
                return OfferAnswer(accepted=False, reason="it is being fetched", fetching=True)
            return OfferAnswer(accepted=self.accepts, recipe="stand-in", reason="" if self.accepts else "busy")

        @app.post("/v1/tasks", dependencies=[requires_caller], response_model=None)
        async def start(message: Start, request: Request) -> StartAnswer | Response:
            self.starts.append(message)
            await _silence(request, SILENT_SECONDS if self.is_mute else 0.0)
            if len(self.starts) <= self.lost_starts:
                return StreamingResponse(iter([b"{"]), headers={HEADER_FILE: f"{'0' * 64} -"})
            if self.words:
                return self._said(accepted=self.begins, reason=self.words)
            return StartAnswer(accepted=self.begins, reason="" if self.begins else "changed my mind")

        @app.get("/v1/tasks/{task_id}", dependencies=[requires_caller])
        async def status(task_id: str) -> AttemptStatus:
            if self.status is None:
                raise PeerRefused("No word", code="not_found")
            return self.status

        @app.get("/v1/tasks/{task_id}/submission", dependencies=[requires_caller])
        async def submission(task_id: str) -> Reveal:
            self.asked.append(task_id)
            if self.reveal is None:
                raise PeerRefused("There is no submission", code="no_submission")
            return self.reveal

        @app.get("/v1/tasks/{task_id}/files/{name}", dependencies=[requires_caller])
        async def file(task_id: str, name: str, request: Request) -> Response:
            await asyncio.sleep(self.file_seconds)
            self.served.append(name)
            return file_response(self.files[name], request, sha256=_sha256(self.files[name].read_bytes()))

        return app

    def _said(self, **fields: object) -> Response:
        return Response(json.dumps({"version": 1, **fields}), media_type="application/json")

    async def submit(self, subnet: Reached, folder: Path, *, base_digest: str, task_id: str = TASK) -> None:
        """Write an adapter, commit to it on chain and be ready to show it."""
        repo = folder / self.name
        repo.mkdir(parents=True)
        (repo / "adapter_config.json").write_text(json.dumps({"r": 4}))
        (repo / "adapter_model.safetensors").write_bytes(save({"x": np.full((2, 2), len(self.name), np.float32)}))
        await self.hand_in(subnet, repo, base_digest=base_digest, task_id=task_id)

    async def hand_in(self, subnet: Reached, repo: Path, *, base_digest: str, task_id: str) -> None:
        """Commit to an adapter on chain and be ready to show it."""
        start = next((each for each in self.starts if each.offer.task_id == task_id), None)
        start = start or next(iter(self.starts), None)
        manifest = describe_folder(
            repo,
            task_id=task_id,
            hotkey=self.hotkey,
            base_digest=base_digest,
            kind="adapter",
            training=TrainingSummary(recipe="stand-in"),
            terms_sha256=start.terms_sha256 if start else None,
        )
        text, salt = manifest.text(), hashlib.sha256(f"{task_id}{self.name}".encode()).hexdigest()
        opening = Opening(subnet.gateway.netuid, task_id, self.hotkey, _sha256(text.encode()), salt)
        await subnet.chain.gateway(self.hotkey).commit(payload([opening.leaf()]))
        self.reveal = Reveal(
            task_id=task_id,
            manifest=text,
            salt=salt,
            proof=(),
            start=start,
        )
        self.files = {path.name: path for path in repo.iterdir()}  # noqa: ASYNC240 (a few names, in a test)


async def _silence(request: Request, seconds: float) -> None:
    """Say nothing for so long, or until nobody listens any more."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not await request.is_disconnected():  # noqa: ASYNC110 (it has no event)
                await asyncio.sleep(0.02)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
