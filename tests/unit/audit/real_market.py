"""A market that runs through the real stages, ledger, axons, worker functions and recorder, so that its record is a real one."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import cast

import numpy as np
from pydantic import JsonValue
from safetensors.numpy import load_file, save_file

from gradients.axon.client import AxonClient
from gradients.axon.messages import AttemptStatus
from gradients.bases.bases import BaseInfo
from gradients.domain.task import TaskId, TaskState
from gradients.execution.inline import InlineExecutor
from gradients.execution.job import Job
from gradients.repo.store import ContentStore
from gradients.tasks.instruct.spec import INSTRUCT
from gradients.tasks.jobs.training import TrainingPlan, TrainJob
from gradients.tasks.registry import validate_request
from gradients.testing.clock import HandClock
from gradients.testing.cpu_devices import cpu_devices
from gradients.testing.fake_chain import FakeChain
from gradients.testing.task_samples.instruct import SAMPLE
from tests.unit.validator.market import PATIENT, StandIn, Subnet, claimed, found, tiny_bases
from validator.folders import Folders
from validator.ledger import Ledger
from validator.pay.emission import Emission
from validator.recording import Recorder
from validator.settings import CollectSettings, MeasureSettings, OfferSettings
from validator.specs.continuing import base_of
from validator.stages.collect import CollectStage
from validator.stages.measure import MeasureStage
from validator.stages.offer import OfferStage
from validator.stages.prepare import PrepareStage
from validator.stages.score import ScoreStage

TRAINING_SECONDS = 300.0
REVEAL_SECONDS = 20.0
OFFERING = OfferSettings(answer_seconds=60.0, quiet_seconds=60.0)
LONG = 1_000_000  # blocks that the node remembers


def task_id(number: int) -> TaskId:
    """Of the n-th task of a market, counted from 0."""
    return TaskId(f"instruct-{number:012x}")


class RealMarket:
    """One validator, and five miners: two that train, a copycat, one that uploads the base's like, and one that never delivers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, HandClock()
        self.ledger = Ledger.open(f"sqlite:///{folder}/ledger.db", self.clock)
        self.subnet = Subnet(self.clock, FakeChain(kept_blocks=LONG))
        self.bases = tiny_bases(folder)
        self.store, self.folders = ContentStore(folder / "blobs"), Folders(folder)
        self.client, self.executor = (
            AxonClient(self.subnet.keypair, allow_private=True, limits=PATIENT),
            InlineExecutor(),
        )
        gateway, view = self.subnet.gateway, self.subnet.view
        collect = CollectSettings(reveal_seconds=REVEAL_SECONDS)
        self.prepare = PrepareStage(self.ledger, self.bases, self.store, self.folders, self.executor)
        self.offer = OfferStage(self.ledger, gateway, view, self.client, self.clock, OFFERING, collect)
        self.collect = CollectStage(
            self.ledger, gateway, view, self.client, self.bases, self.store, self.folders, collect
        )
        self.measure = MeasureStage(
            self.ledger, gateway, self.bases, self.store, self.executor, cpu_devices(), self.folders, MeasureSettings()
        )
        self.emission = Emission(self.ledger, gateway, view, self.clock)
        self.recorder = Recorder(self.ledger, gateway, self.subnet.keypair, self.folders, self.clock)
        self.miners = [StandIn(name) for name in ("alice", "bob", "copycat", "lazy", "silent")]
        self.rows = folder / "rows.jsonl"
        self.rows.write_text("".join(json.dumps(row) + "\n" for row in SAMPLE.rows), encoding="utf-8")

    async def play(
        self, tasks: int, *, private: bool = False, customer: str = "schedule", continues: TaskId | None = None
    ) -> None:
        """Run so many more tasks from request to weights, all recorded; on the base, or on the winner of another task."""
        if not self.subnet.chain.graph.by_hotkey(self.subnet.gateway.hotkey):
            await self.subnet.start(*self.miners)
        async with self.subnet.serving(*self.miners):
            for _ in range(tasks):
                number = self.ledger.tasks.count()
                await self.task(task_id(number), private=private, customer=customer, continues=continues)
                await self.epoch()

    async def task(
        self,
        task_id: TaskId,
        *,
        private: bool = False,
        customer: str = "schedule",
        continues: TaskId | None = None,
        gives_up: bool = False,
    ) -> None:
        """One task to its record; every miner hands in, but for the last one, or gives it up."""
        ledger, spec = self.ledger, {"type": INSTRUCT.name, "dataset": str(self.rows), "hours": 0.01}
        model = {"continues": continues} if continues else {"base": "tiny"}
        request = validate_request(cast(dict[str, JsonValue], {**spec, **model, "private": private}))
        number = ledger.tasks.count()
        ledger.tasks.create(task_id, request, customer=customer, salt=number.to_bytes(32, "big"))
        self.clock.time += 1.0
        await self.prepare.run(claimed(ledger, TaskState.DRAFT, block=LONG))
        await self.offer.run(claimed(ledger, TaskState.OPEN, block=LONG))
        await (self._give_up(task_id) if gives_up else self._hand_in(task_id))
        await self.measure.run(claimed(ledger, TaskState.COLLECTED, block=LONG))
        await ScoreStage(ledger, self.subnet.gateway, self.clock).run(claimed(ledger, TaskState.MEASURED, block=LONG))
        assert await self.recorder.catch_up() == 1

    async def _hand_in(self, task_id: TaskId) -> None:
        for miner in self.miners[:-1]:
            base = base_of(found(self.ledger, task_id), self.bases, self.folders)
            repo = await self.repo(miner, base)
            base_digest = base.digest
            await miner.hand_in(self.subnet, repo, base_digest=base_digest, task_id=task_id)
        self.miners[-1].reveal = None
        blocks = found(self.ledger, task_id).blocks
        for block in (blocks.deadline_block + 1, blocks.reveal_until_block - 2, blocks.reveal_until_block + 1):
            if found(self.ledger, task_id).state is TaskState.ASSIGNED:
                await self.subnet.reach(block)
                self.clock.time += 100.0
                await self.collect.run(claimed(self.ledger, TaskState.ASSIGNED, block=LONG))

    async def _give_up(self, task_id: TaskId) -> None:
        for miner in self.miners:
            miner.status = AttemptStatus(task_id=task_id, phase="failed", recipe="", fraction=0.0)
        await self.subnet.reach(found(self.ledger, task_id).blocks.started_at_block + 1)
        self.ledger.tasks.hasten(task_id)
        await self.collect.run(claimed(self.ledger, TaskState.ASSIGNED))

    async def epoch(self) -> None:
        """The weights of one more epoch, set and recorded."""
        graph = self.subnet.chain.graph
        await self.subnet.reach(graph.last_epoch_block + graph.tempo_blocks)
        for _ in range(graph.tempo_blocks - 2):
            await self.emission.step()
            if await self.recorder.catch_up():
                return
            await self.subnet.reach(self.subnet.chain.graph.block + 1)
        raise AssertionError("no weights were set in the epoch")

    async def repo(self, miner: StandIn, base: BaseInfo) -> Path:
        """What the miner hands in: its one adapter of a base, trained the first time."""
        folder = self.folder / "repos" / base.digest / miner.name
        if folder.is_dir():
            return folder
        if miner.name == "copycat":  # alice's, with some noise
            shutil.copytree(folder.with_name("alice"), folder)
            file, noise = folder / "adapter_model.safetensors", np.random.default_rng(0)
            tensors = load_file(file)
            save_file(
                {name: t * (1 + 0.01 * noise.normal(size=t.shape).astype(t.dtype)) for name, t in tensors.items()}, file
            )
            return folder
        start = miner.starts[-1]
        plan = {**SAMPLE.plan, **({"max_epochs": 0.01, "learning_rate": 1e-9} if miner.name == "lazy" else {})}
        job = TrainJob(
            base_folder=base.folder,
            train_file=self.store.path(start.train.sha256),
            parameters=start.parameters,
            plan=TrainingPlan.model_validate({"recipe": "contract", **plan}),
            seed=start.seed,
            deadline_unix=time.time() + TRAINING_SECONDS,
            checkpoint_folder=folder.parent / f"{miner.name}-checkpoint",
            output_folder=folder,
        )
        run = Job(INSTRUCT.train, job.model_dump(mode="json"), folder.parent / f"{miner.name}-job", TRAINING_SECONDS)
        await self.executor.run(run, report=lambda _: None)
        return folder

    async def close(self) -> None:
        """Let go of everything."""
        await self.client.close()
        self.ledger.engine.dispose()
