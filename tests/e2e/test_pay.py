"""What a market pays, end to end: real stages, workers and axons, a chain in memory. Silence, faults of the validator, and copies."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from pydantic import JsonValue
from safetensors.numpy import load_file, save_file

from gradients.axon.client import AxonClient
from gradients.domain.evaluation import Placing
from gradients.domain.json import JsonObject
from gradients.domain.task import Hotkey, TaskId, TaskState
from gradients.errors import Blame
from gradients.execution.inline import InlineExecutor
from gradients.execution.job import Job, ReportProgress
from gradients.execution.process import ProcessExecutor
from gradients.repo.store import ContentStore
from gradients.tasks.instruct.spec import INSTRUCT
from gradients.tasks.jobs.measuring import MeasureJob
from gradients.tasks.jobs.training import TrainingPlan, TrainJob
from gradients.tasks.registry import validate_request
from gradients.testing.clock import HandClock
from gradients.testing.cpu_devices import cpu_devices
from gradients.testing.fake_chain import FakeChain
from gradients.testing.task_samples.instruct import SAMPLE
from tests.unit.validator.market import PATIENT, StandIn, Subnet, claimed, failures, found, tiny_bases
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.lease import Claim
from validator.pay.emission import Emission
from validator.settings import CollectSettings, MeasureSettings, OfferSettings
from validator.stages.collect import CollectStage
from validator.stages.measure import MeasureStage
from validator.stages.offer import OfferStage
from validator.stages.prepare import PrepareStage
from validator.stages.score import ScoreStage

TRAINING_SECONDS = 300.0
OFFERING = OfferSettings(answer_seconds=60.0, quiet_seconds=60.0)
LONG = 1_000_000  # blocks that the node remembers
ALPHA = 16.0
Forge = Callable[[Path], None]
NO_FORGERS: Mapping[str, Forge] = {}


@dataclass
class Fragile:
    """An executor whose worker is really killed whenever it is to measure one of `deadly`."""

    deadly: frozenset[str] = frozenset()

    async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
        """See Executor."""
        if job.function == INSTRUCT.measure:
            entrants = {entrant.id for entrant in MeasureJob.model_validate(job.arguments).entrants}
            if entrants & self.deadly:
                killed = replace(job, function="gradients.testing.worker_functions:die")
                return await ProcessExecutor().run(killed, report=report)
        return await InlineExecutor().run(job, report=report)


class Market:
    """A validator's parts on one subnet."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, HandClock()
        self.ledger = Ledger.open(f"sqlite:///{folder}/ledger.db", self.clock)
        self.subnet, self.bases = Subnet(self.clock, FakeChain(kept_blocks=LONG)), tiny_bases(folder)
        self.store, self.folders = ContentStore(folder / "blobs"), Folders(folder)
        self.client, self.executor = AxonClient(self.subnet.keypair, allow_private=True, limits=PATIENT), Fragile()
        self.rows = folder / "rows.jsonl"
        self.rows.write_text("".join(json.dumps(row) + "\n" for row in SAMPLE.rows), encoding="utf-8")

    async def run(
        self,
        task_id: TaskId,
        invited: Sequence[StandIn],
        *,
        hand_in: Sequence[StandIn],
        forge: Mapping[str, Forge] = NO_FORGERS,
    ) -> None:
        """One task from its request to its score; `hand_in` commit in that order, those in `forge` to a forged copy of alice's."""
        ledger, gateway, view = self.ledger, self.subnet.gateway, self.subnet.view
        collect = CollectSettings(reveal_seconds=20.0)
        request = {"type": INSTRUCT.name, "base": "tiny", "dataset": str(self.rows), "hours": 0.01}
        asked = validate_request(cast(dict[str, JsonValue], request))
        salt = ledger.tasks.count().to_bytes(32, "big")
        ledger.tasks.create(task_id, asked, customer="schedule", salt=salt)
        await PrepareStage(ledger, self.bases, self.store, self.folders, InlineExecutor()).run(
            self.due(TaskState.DRAFT)
        )
        offering = OfferStage(ledger, gateway, view, self.client, self.clock, OFFERING, collect)
        await offering.run(self.due(TaskState.OPEN))
        for miner in invited:
            miner.reveal = None
        for miner in hand_in:
            digest = found(ledger, task_id).data.base_digest
            await miner.hand_in(
                self.subnet, await self.repo(miner, forge.get(miner.name)), base_digest=digest, task_id=task_id
            )
        blocks = found(ledger, task_id).blocks
        stage = CollectStage(ledger, gateway, view, self.client, self.bases, self.store, self.folders, collect)
        for block in (blocks.deadline_block + 1, blocks.reveal_until_block - 2, blocks.reveal_until_block + 1):
            if found(ledger, task_id).state is TaskState.ASSIGNED:
                await self.subnet.reach(block)
                self.clock.time += 100.0
                await stage.run(self.due(TaskState.ASSIGNED))
        measuring = MeasureSettings()
        await MeasureStage(
            ledger, gateway, self.bases, self.store, self.executor, cpu_devices(), self.folders, measuring
        ).run(self.due(TaskState.COLLECTED))
        await ScoreStage(ledger, gateway, self.clock).run(self.due(TaskState.MEASURED))

    def due(self, state: TaskState) -> Claim:
        return claimed(self.ledger, state, block=LONG)

    async def repo(self, miner: StandIn, forge: Forge | None) -> Path:
        """What the miner trains, the first time; or what a forger leaves of alice's."""
        folder = self.folder / "repos" / miner.name
        if folder.is_dir():
            return folder
        if forge is not None:
            shutil.copytree(self.folder / "repos" / "alice", folder)
            forge(folder)
            return folder
        start = miner.starts[-1]
        job = TrainJob(
            base_folder=self.bases.resolve(start.offer.base).folder,
            train_file=self.store.path(start.train.sha256),
            parameters=start.parameters,
            plan=TrainingPlan.model_validate({"recipe": "pay", **SAMPLE.plan, "lora_alpha": ALPHA}),
            seed=start.seed,
            deadline_unix=time.time() + TRAINING_SECONDS,
            checkpoint_folder=folder.parent / f"{miner.name}-checkpoint",
            output_folder=folder,
        )
        run = Job(INSTRUCT.train, job.model_dump(mode="json"), folder.parent / f"{miner.name}-job", TRAINING_SECONDS)
        await InlineExecutor().run(run, report=lambda _: None)
        return folder

    def placed(self, task_id: str) -> dict[Hotkey, Placing]:
        return {placing.hotkey: placing for placing in self.ledger.placings.of_task(task_id)}

    def standing(self) -> dict[Hotkey, float]:
        """What would be paid now."""
        emission = Emission(self.ledger, self.subnet.gateway, self.subnet.view, self.clock)
        return emission.standing(self.subnet.chain.graph.block)


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    made = Market(tmp_path)
    yield made
    made.ledger.engine.dispose()


def _task(number: int) -> TaskId:
    return TaskId(f"instruct-{number:012x}")


def test_thirteen_hotkeys_that_accept_and_stay_silent_are_paid_nothing(market: Market) -> None:
    alice, bob = StandIn("alice"), StandIn("bob")
    mute = [StandIn(f"mute-{n}", lost_starts=LONG) for n in range(7)]
    idle = [StandIn(f"idle-{n}") for n in range(6)]  # they begin, and never hand anything in
    everybody = [alice, bob, *mute, *idle]

    async def scenario() -> None:
        await market.subnet.start(*everybody)
        async with market.subnet.serving(*everybody):
            await market.run(_task(1), everybody, hand_in=[alice, bob])
        await market.client.close()

    asyncio.run(scenario())
    silent = {miner.hotkey for miner in (*mute, *idle)}
    placed, standing = market.placed(_task(1)), market.standing()
    assert len(silent) == 13
    assert set(placed) == {alice.hotkey, bob.hotkey, *silent}
    assert {(placed[hotkey].rank, placed[hotkey].points) for hotkey in silent} == {(None, 0.0)}
    assert {code for hotkey, (_, code) in failures(market.ledger, _task(1)).items()} == {
        "not_started",
        "commitment_missing",
    }
    assert set(standing) <= {alice.hotkey, bob.hotkey}
    assert sum(standing.values()) == pytest.approx(1.0)


def test_a_worker_that_dies_on_a_submission_leaves_its_miners_pay_as_it_was(market: Market) -> None:
    alice, bob = StandIn("alice"), StandIn("bob")
    before = dict[Hotkey, float]()

    async def scenario() -> None:
        await market.subnet.start(alice, bob)
        async with market.subnet.serving(alice, bob):
            for number in (1, 2):
                await market.run(_task(number), [alice, bob], hand_in=[alice, bob])
            before.update(market.standing())
            market.executor.deadly = frozenset({alice.hotkey})
            await market.run(_task(3), [alice, bob], hand_in=[alice, bob])
        await market.client.close()

    asyncio.run(scenario())
    placing = market.placed(_task(3))[alice.hotkey]
    assert (placing.rank, placing.points, placing.fault) == (None, 0.0, Blame.OPERATOR)
    assert failures(market.ledger, _task(3)) == {alice.hotkey: ("operator", "evaluation_failed")}
    assert "SIGKILL" in placing.reason
    assert market.placed(_task(3))[bob.hotkey].points == 1.0  # who would be paid alone if this were not made good
    assert 0 < before[alice.hotkey] < 1
    assert market.standing()[alice.hotkey] == pytest.approx(before[alice.hotkey])


def _noised(repo: Path) -> None:
    """1 % of each factor's size as noise on its weights."""
    file, noise = repo / "adapter_model.safetensors", np.random.default_rng(0)
    tensors = load_file(file)
    save_file(
        {name: t + 0.01 * t.std() * noise.normal(size=t.shape).astype(t.dtype) for name, t in tensors.items()}, file
    )


def _rescaled(repo: Path) -> None:
    """Alpha 16.01 in place of 16."""
    file = repo / "adapter_config.json"
    config = json.loads(file.read_text())
    assert config["lora_alpha"] == ALPHA
    file.write_text(json.dumps({**config, "lora_alpha": 16.01}))


def test_a_copy_with_noise_and_one_with_another_alpha_are_named_with_evidence_and_unpaid(market: Market) -> None:
    alice, bob, noisy, rescaled = (StandIn(name) for name in ("alice", "bob", "noisy", "rescaled"))
    everybody = [alice, bob, noisy, rescaled]

    async def scenario() -> None:
        await market.subnet.start(*everybody)
        async with market.subnet.serving(*everybody):
            await market.run(_task(1), everybody, hand_in=everybody, forge={"noisy": _noised, "rescaled": _rescaled})
        await market.client.close()

    asyncio.run(scenario())
    placed, standing = market.placed(_task(1)), market.standing()
    values = {m.value for name, m in market.ledger.submissions.measurements(_task(1)).items() if name != "base"}
    assert len(values) == 4  # no two measured the same
    for copy, cosine in ((noisy, 0.9999), (rescaled, 1.0)):  # two factors with 1 % of noise each are 1e-4 apart
        placing = placed[copy.hotkey]
        assert (placing.copy_of, placing.rank, placing.points) == (alice.hotkey, None, 0.0)
        assert f"the same model as {alice.hotkey}'s, which was committed first" in placing.reason
        evidence = re.search(r"their updates of the base point the same way \(cosine (\d\.\d+)\)", placing.reason)
        assert evidence is not None
        assert float(evidence[1]) == pytest.approx(cosine, abs=1e-4)
        assert copy.hotkey not in standing
    assert {placed[bob.hotkey].rank, placed[alice.hotkey].rank} == {1, 2}
    assert sum(standing.values()) == pytest.approx(1.0)
