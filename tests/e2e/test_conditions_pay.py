"""No miner loses points by a condition that breaks: real stages and axons, a real chain, and the ledger's points by the rules of pay.

Each condition is broken between a task's deadline and its reveal, where a miner has all to lose: it has trained and committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from pydantic import JsonValue
from safetensors.numpy import load_file, save_file

from gradients.axon.client import AxonClient
from gradients.axon.serve import serving
from gradients.chain.sdk import SdkGateway
from gradients.chain.view import ChainView
from gradients.chain.wallet import open_wallet
from gradients.clock import SystemClock
from gradients.domain.chain import AxonAddress
from gradients.domain.submission import Submission, SubmissionState
from gradients.domain.task import Hotkey, TaskId, TaskState, Window
from gradients.execution.inline import InlineExecutor
from gradients.execution.job import Job
from gradients.localchain.operator import operating
from gradients.repo.store import ContentStore
from gradients.tasks.instruct.spec import INSTRUCT
from gradients.tasks.jobs.training import TrainingPlan, TrainJob
from gradients.tasks.registry import validate_request
from gradients.testing.axons import keypair_of
from gradients.testing.chain_process import ChainProcess, chain_process
from gradients.testing.cpu_devices import cpu_devices
from gradients.testing.task_samples.instruct import SAMPLE
from tests.unit.validator.market import HOST, StandIn, claimed, failures, found, running, tiny_bases, until
from validator.engine import StepEngine
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.submissions import add_submissions
from validator.pay.emission import Emission
from validator.settings import CollectSettings, MeasureSettings
from validator.stages.collect import CollectStage
from validator.stages.measure import MeasureStage
from validator.stages.prepare import PrepareStage
from validator.stages.score import ScoreStage

pytestmark = pytest.mark.slow

BLOCK_SECONDS = 0.1
CALL_SECONDS = 5.0  # until a chain that stands still is given up
STAKE_RAO, UNREACHABLE_STAKE_RAO = 10**11, 10**15
LONG_BLOCKS, SHORT_BLOCKS = 100_000, 10
ELSEWHERE = AxonAddress("127.0.0.3", 8555)
TRAINING_SECONDS = 300.0


class Chains:
    """Everybody's connection to the chain."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._open: dict[str, SdkGateway] = {}

    def gateway(self, hotkey: str) -> SdkGateway:
        return self._open[hotkey]

    def connect(self, name: str) -> SdkGateway:
        gateway = SdkGateway(self.url, 1, open_wallet(f"//{name}//cold", f"//{name}"))
        return self._open.setdefault(gateway.hotkey, gateway)

    async def close(self) -> None:
        for gateway in self._open.values():
            await gateway.close()


@dataclass(frozen=True)
class Outcome:
    """What a task came to, and what all tasks so far would pay."""

    points: Mapping[Hotkey, float]
    failures: Mapping[str, tuple[str, str]]
    standing: Mapping[Hotkey, float]


@dataclass
class Market:
    """A validator's parts and two miners: alice, whose model is good, and bob, whose model is the base's like."""

    folder: Path
    process: ChainProcess
    miners: tuple[StandIn, StandIn] = field(default_factory=lambda: (StandIn("alice"), StandIn("bob")))

    def __post_init__(self) -> None:
        self.clock, self.chain, self.bases = SystemClock(), Chains(self.process.url), tiny_bases(self.folder)
        self.ledger = Ledger.open(f"sqlite:///{self.folder}/ledger.db", self.clock)
        self.store, self.folders, self.executor = (
            ContentStore(self.folder / "blobs"),
            Folders(self.folder),
            InlineExecutor(),
        )
        for miner in self.miners:
            miner.validators_only = True  # as real miners do
        self.gateway = self.chain.connect("validator")
        self.impatient = SdkGateway(
            self.chain.url, 1, open_wallet("//validator//cold", "//validator"), timeout_seconds=CALL_SECONDS
        )
        self.view = ChainView(self.gateway, self.clock, refresh_seconds=3 * BLOCK_SECONDS)
        self.emission = Emission(self.ledger, self.gateway, self.view, self.clock)
        self.client = AxonClient(keypair_of("validator"), allow_private=True)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Seats, axons, and a picture of the chain that is kept fresh."""
        following = asyncio.create_task(self.view.follow())
        try:
            await self.begin()
            async with contextlib.AsyncExitStack() as stack:
                for miner in self.miners:
                    address = await stack.enter_async_context(serving(miner.app(self.view), HOST, 0))
                    await self.chain.connect(miner.name).publish_axon(address)
                await until(lambda: all(self.axon_of(miner) is not None for miner in self.miners))
                yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await self.client.close()
            await self.impatient.close()
            await self.chain.close()
            self.ledger.engine.dispose()

    async def begin(self) -> None:
        """Seats for the miners first, whom a newcomer would push out first, then for the validator with its stake and permit."""
        cold = {
            name: open_wallet(f"//{name}//cold", f"//{name}").coldkey.ss58_address
            for name in ("alice", "bob", "validator", "newcomer")
        }
        async with operating(self.chain.url) as operator:
            for address in cold.values():
                await operator.fund(address, 10**12)
            for name in ("alice", "bob", "validator"):
                await self.chain.connect(name).register()
            await operator.stake(coldkey=cold["validator"], hotkey=self.gateway.hotkey, netuid=1, rao=STAKE_RAO)
            await operator.trigger_epoch(1)
        await self.view.start()
        await until(lambda: self.has_permit())

    def axon_of(self, miner: StandIn) -> AxonAddress | None:
        neuron = self.view.metagraph().by_hotkey(miner.hotkey)
        return neuron.axon if neuron else None

    def has_permit(self) -> bool:
        us = self.view.metagraph().by_hotkey(self.gateway.hotkey)
        return us is not None and us.validator_permit

    async def task(self, number: int, broken: AbstractAsyncContextManager[None], *, reveal_blocks: int) -> Outcome:
        """One task from its request to its score; the condition is broken once both have committed, until the stages have felt it."""
        task_id, ledger = TaskId(f"instruct-{number:012x}"), self.ledger
        rows = self.folder / "rows.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in SAMPLE.rows), encoding="utf-8")
        request = {"type": INSTRUCT.name, "base": "tiny", "dataset": str(rows), "hours": 0.01}
        ledger.tasks.create(
            task_id,
            validate_request(cast(dict[str, JsonValue], request)),
            customer="schedule",
            salt=number.to_bytes(32, "big"),
        )
        await PrepareStage(ledger, self.bases, self.store, self.folders, self.executor).run(
            claimed(ledger, TaskState.DRAFT)
        )
        started_at_block = await self.gateway.block()
        for miner in self.miners:
            repo = await self.repo(miner, task_id)
            digest = found(ledger, task_id).data.base_digest
            await miner.hand_in(self, repo, base_digest=digest, task_id=task_id)
        deadline = await self.gateway.block()
        await self.view.wait_for_block(deadline + 1)
        self.assign(task_id, Window(started_at_block, deadline, deadline + reveal_blocks))
        async with contextlib.AsyncExitStack() as stack:
            async with broken:
                await stack.enter_async_context(running(self.engine()))
                await until(lambda: self.has_felt(task_id))
            await until(lambda: found(ledger, task_id).state is TaskState.SCORED)
        placed = ledger.placings.of_task(task_id)
        return Outcome(
            {placing.hotkey: placing.points for placing in placed},
            failures(ledger, task_id),
            self.emission.standing(self.view.block),
        )

    def assign(self, task_id: TaskId, window: Window) -> None:
        """What the offer leaves: miners that have started, with blocks that are over. No test waits for hours of blocks."""
        graph = self.view.metagraph()
        neurons = [neuron for miner in self.miners if (neuron := graph.by_hotkey(miner.hotkey))]
        invited = [Submission(task_id, neuron.hotkey, neuron.uid, SubmissionState.INVITED) for neuron in neurons]
        lease = claimed(self.ledger, TaskState.OPEN).lease
        self.ledger.tasks.set_window(lease, window, draw={}, also=lambda session: add_submissions(session, invited))
        for neuron in neurons:
            self.ledger.submissions.started(lease, neuron.hotkey, axon=neuron.axon)
        due = window.deadline_block + 1
        self.ledger.tasks.advance(lease, came_from=TaskState.OPEN, to=TaskState.ASSIGNED, due_at_block=due)

    def has_felt(self, task_id: TaskId) -> bool:
        """Whether the task has been collected, or could not be."""
        was_stopped = self.ledger.events.of_task(task_id, name="task_postponed")
        return bool(was_stopped) or found(self.ledger, task_id).state is not TaskState.ASSIGNED

    def engine(self) -> StepEngine:
        ledger, settings = self.ledger, CollectSettings(retry_seconds=BLOCK_SECONDS)
        client = self.client
        return StepEngine(
            ledger,
            self.view,
            {
                TaskState.ASSIGNED: CollectStage(
                    ledger, self.impatient, self.view, client, self.bases, self.store, self.folders, settings
                ),
                TaskState.COLLECTED: MeasureStage(
                    ledger,
                    self.impatient,
                    self.bases,
                    self.store,
                    self.executor,
                    cpu_devices(),
                    self.folders,
                    MeasureSettings(),
                ),
                TaskState.MEASURED: ScoreStage(ledger, self.impatient, self.clock),
            },
            owner="one",
        )

    async def repo(self, miner: StandIn, task_id: TaskId) -> Path:
        """Alice's model is trained once; bob's is the same with an update of nothing."""
        folder = self.folder / "repos" / miner.name
        if folder.is_dir():
            return folder
        if miner.name == "bob":
            shutil.copytree(self.folder / "repos" / "alice", folder)
            file = folder / "adapter_model.safetensors"
            save_file({name: tensor * 0 for name, tensor in load_file(file).items()}, file)
            return folder
        task = found(self.ledger, task_id)
        job = TrainJob(
            base_folder=self.bases.resolve("tiny").folder,
            train_file=self.store.path(task.data.train.sha256),
            parameters=cast(dict[str, JsonValue], task.request.parameters),
            plan=TrainingPlan.model_validate({"recipe": "pay", **SAMPLE.plan, "lora_alpha": 16.0}),
            seed=1,
            deadline_unix=time.time() + TRAINING_SECONDS,
            checkpoint_folder=self.folder / "checkpoint",
            output_folder=folder,
        )
        run = Job(INSTRUCT.train, job.model_dump(mode="json"), self.folder / "job", TRAINING_SECONDS)
        await self.executor.run(run, report=lambda _: None)
        return folder

    # ---- the conditions

    @contextlib.asynccontextmanager
    async def nothing(self) -> AsyncIterator[None]:
        yield

    @contextlib.asynccontextmanager
    async def axon(self) -> AsyncIterator[None]:
        """Another process of alice's hotkey has published an address where nobody answers."""
        alice, own = self.miners[0], self.axon_of(self.miners[0])
        assert own is not None
        await self.chain.gateway(alice.hotkey).publish_axon(ELSEWHERE)
        await until(lambda: self.axon_of(alice) == ELSEWHERE)
        yield
        await self.chain.gateway(alice.hotkey).publish_axon(own)
        await until(lambda: self.axon_of(alice) == own)

    @contextlib.asynccontextmanager
    async def permit(self) -> AsyncIterator[None]:
        await self.operate(("stake_threshold", UNREACHABLE_STAKE_RAO), epoch=True)
        await until(lambda: not self.has_permit())
        yield
        await self.operate(("stake_threshold", 0), epoch=True)
        await until(self.has_permit)

    @contextlib.asynccontextmanager
    async def stake(self) -> AsyncIterator[None]:
        """Too little to set weights, and the permit until the next epoch."""
        await self.operate(("stake_threshold", UNREACHABLE_STAKE_RAO))
        yield
        await self.operate(("stake_threshold", 0))

    @contextlib.asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        with self.process.frozen():
            yield

    @contextlib.asynccontextmanager
    async def seat(self) -> AsyncIterator[None]:
        """Alice's goes to a newcomer, for good."""
        limits = (("immunity_period", 0), ("min_non_immune_uids", 0), ("max_allowed_uids", 4))
        await self.operate(*limits)
        await self.chain.connect("newcomer").register()
        await until(lambda: self.view.metagraph().by_hotkey(self.miners[0].hotkey) is None)
        yield

    async def operate(self, *changes: tuple[str, int], epoch: bool = False) -> None:
        async with operating(self.chain.url) as operator:
            for name, value in changes:
                await operator.set_hyperparameter(1, name, value)
            if epoch:
                await operator.trigger_epoch(1)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Outcome]:
    """Of one task for each condition, one after the other; the seat is lost last, for it stays so."""
    home, found_out = tmp_path_factory.mktemp("market"), dict[str, Outcome]()

    async def scenario(process: ChainProcess) -> None:
        market = Market(home, process)
        conditions = {
            "nothing": market.nothing,
            "axon": market.axon,
            "permit": market.permit,
            "stake": market.stake,
            "chain": market.frozen,
            "seat": market.seat,
        }
        async with market.open():
            for number, (name, broken) in enumerate(conditions.items()):
                blocks = SHORT_BLOCKS if name == "permit" else LONG_BLOCKS
                found_out[name] = await market.task(number, broken(), reveal_blocks=blocks)

    with chain_process(home / "chain", f"--block-seconds={BLOCK_SECONDS}", "--tempo=50000") as process:
        asyncio.run(scenario(process))
    return found_out


ALICE, BOB = (keypair_of(name).ss58_address for name in ("alice", "bob"))


@pytest.mark.parametrize("condition", ["axon", "stake", "chain", "seat"])
def test_a_miner_that_has_committed_gets_all_its_points_though(outcomes: Mapping[str, Outcome], condition: str) -> None:
    """The whole prize of a task in which the other model is not better than the base."""
    assert outcomes["nothing"] == Outcome({ALICE: 1.0, BOB: 0.0}, {}, {ALICE: 1.0})
    assert outcomes[condition] == outcomes["nothing"]


def test_without_a_permit_nobody_can_be_fetched_and_that_is_the_validators_failure(
    outcomes: Mapping[str, Outcome],
) -> None:
    """Such a failure counts neither in pay, which stays as it was, nor in draws."""
    outcome = outcomes["permit"]
    assert outcome.failures == dict.fromkeys((ALICE, BOB), ("operator", "not_revealed"))
    assert outcome.standing == outcomes["nothing"].standing
