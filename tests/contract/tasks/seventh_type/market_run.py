"""A task of the seventh type goes the whole way: real stages and workers, axons on loopback, a chain in memory.

Run by ../test_seventh_type.py in a process in which the type is installed.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import cast

import pytest
from pydantic import JsonValue

from gradients.axon.client import AxonClient
from gradients.datasets.access import Access
from gradients.domain.json import JsonObject
from gradients.domain.task import TaskId, TaskState
from gradients.execution.inline import InlineExecutor
from gradients.execution.job import Job, ReportProgress
from gradients.execution.process import ProcessExecutor
from gradients.repo.store import ContentStore
from gradients.tasks.jobs.rows import SURVEY
from gradients.tasks.jobs.training import TrainingPlan, TrainJob, TrainResult
from gradients.tasks.registry import validate_request
from gradients.testing.clock import HandClock
from gradients.testing.cpu_devices import cpu_devices
from tests.contract.tasks.seventh_type.sample import SAMPLE
from tests.contract.tasks.seventh_type.spec import CONTINUATION
from tests.unit.validator.market import PATIENT, StandIn, Subnet, claimed, draft, found, tiny_bases
from validator.folders import Folders
from validator.ledger import Ledger
from validator.pay.emission import Emission
from validator.schedule import next_spec
from validator.settings import (
    CollectSettings,
    EstimateSettings,
    MeasureSettings,
    OfferSettings,
    PooledDataset,
    PooledModel,
    ScheduleSettings,
)
from validator.specs.estimates import Estimates
from validator.stages.collect import CollectStage
from validator.stages.measure import MeasureStage
from validator.stages.offer import OfferStage
from validator.stages.prepare import PrepareStage
from validator.stages.score import ScoreStage

TASK = TaskId(f"{CONTINUATION.name}-0123456789ab")
TRAINING_SECONDS = 300.0  # the plan ends by epochs, long before


class Market:
    """A validator's parts, and a subnet."""

    def __init__(self, folder: Path) -> None:
        self.clock = HandClock()
        self.ledger = Ledger.open(f"sqlite:///{folder}/ledger.db", self.clock)
        self.subnet, self.bases = Subnet(self.clock), tiny_bases(folder)
        self.store, self.folders = ContentStore(folder / "blobs"), Folders(folder)
        self.client, self.executor = (
            AxonClient(self.subnet.keypair, allow_private=True, limits=PATIENT),
            ProcessExecutor(),
        )
        self.prepare = PrepareStage(self.ledger, self.bases, self.store, self.folders, self.executor)
        self.offer = OfferStage(
            ledger=self.ledger,
            gateway=self.subnet.gateway,
            view=self.subnet.view,
            client=self.client,
            clock=self.clock,
            settings=OfferSettings(answer_seconds=60.0, quiet_seconds=60.0),
            collect=CollectSettings(),
        )
        self.collect = CollectStage(
            ledger=self.ledger,
            gateway=self.subnet.gateway,
            view=self.subnet.view,
            client=self.client,
            bases=self.bases,
            store=self.store,
            folders=self.folders,
            settings=CollectSettings(),
        )
        self.measure = MeasureStage(
            self.ledger,
            self.subnet.gateway,
            self.bases,
            self.store,
            self.executor,
            cpu_devices(),
            self.folders,
            MeasureSettings(),
        )

    async def train(self, miner: StandIn, folder: Path) -> None:
        """Do what a miner does with a start, and hand the adapter in."""
        [start] = miner.starts
        job = TrainJob(
            base_folder=self.bases.resolve(start.offer.base).folder,
            train_file=self.store.path(start.train.sha256),
            parameters=start.parameters,
            plan=TrainingPlan.model_validate({"recipe": "contract", **SAMPLE.plan}),
            seed=start.seed,
            deadline_unix=time.time() + TRAINING_SECONDS,
            checkpoint_folder=folder / "checkpoint",
            output_folder=folder / "repo",
        )
        run = Job(CONTINUATION.train, job.model_dump(mode="json"), folder / "job", deadline_seconds=TRAINING_SECONDS)
        TrainResult.model_validate(await self.executor.run(run, report=lambda _: None))
        await miner.hand_in(self.subnet, folder / "repo", base_digest=start.offer.base_digest, task_id=TASK)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in SAMPLE.rows), encoding="utf-8")
    return file


def test_a_task_of_the_seventh_type_is_prepared_offered_trained_measured_scored_and_paid(
    rows: Path, tmp_path: Path
) -> None:
    market, miner, idle = Market(tmp_path), StandIn("alice"), StandIn("bob", accepts=False)
    spec = {"type": CONTINUATION.name, "base": "tiny", "dataset": str(rows), "hours": 0.01}

    async def scenario() -> None:
        ledger = market.ledger
        draft(ledger, validate_request(cast(dict[str, JsonValue], spec)), task_id=TASK)
        await market.prepare.run(claimed(ledger, TaskState.DRAFT))
        await market.subnet.start(miner, idle)
        async with market.subnet.serving(miner, idle):
            await market.offer.run(claimed(ledger, TaskState.OPEN))
            await market.train(miner, tmp_path / "miner")
            await market.subnet.reach(found(ledger, TASK).blocks.deadline_block + 1)
            await market.collect.run(claimed(ledger, TaskState.ASSIGNED))
        await market.subnet.reach(found(ledger, TASK).blocks.reveal_until_block)
        await market.measure.run(claimed(ledger, TaskState.COLLECTED))
        await ScoreStage(ledger, market.subnet.gateway, market.clock).run(claimed(ledger, TaskState.MEASURED))
        await market.client.close()

    asyncio.run(scenario())
    measured = market.ledger.submissions.measurements(TASK)
    assert measured[miner.hotkey].value < measured["base"].value
    assert found(market.ledger, TASK).state is TaskState.SCORED
    [placing] = market.ledger.placings.of_task(TASK)
    assert (placing.hotkey, placing.rank, placing.points) == (miner.hotkey, 1, 1.0)
    emission = Emission(market.ledger, market.subnet.gateway, market.subnet.view, market.clock)
    assert emission.standing(0) == {miner.hotkey: 1.0}
    market.ledger.engine.dispose()


class Bench:
    """An executor that says how fast a base is trained on."""

    async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
        if job.function == SURVEY:
            return await InlineExecutor().run(job, report=report)
        return {"tokens_per_row": 100.0, "tokens_per_second": 20.0, "steps": 3, "device": "bench"}


def test_its_hours_come_from_its_own_factors(rows: Path, tmp_path: Path) -> None:
    """2 x 100 x 100 tokens at half the work, 20 a second, are 500 s; with 0.75 h for the rest 0.889 h: 1 h. At all of it: 1.25 h."""
    spec: dict[str, JsonValue] = {"type": CONTINUATION.name, "base": "tiny", "dataset": str(rows)}
    estimates = Estimates(tiny_bases(tmp_path), Bench(), Access(), EstimateSettings(reference="here"))
    assert asyncio.run(estimates.of(spec)).hours == 1.0


def test_the_schedule_takes_it_by_its_declared_share() -> None:
    pool = ScheduleSettings(
        models=(PooledModel(base="acme/small", billions=0.5),),
        datasets=(PooledDataset(type=CONTINUATION.name, dataset="hub:acme/books"),),
    )
    spec = next_spec(pool, [], slot=0, seed=0)
    assert spec is not None
    assert spec["type"] == CONTINUATION.name
