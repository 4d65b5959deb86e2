"""Sixteen entrants, one of which breaks the worker in each way that one can: only that one fails, and no other number changes by a bit."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from gradients.domain.json import JsonObject
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import TaskId, TaskState
from gradients.execution.devices import Devices
from gradients.execution.job import Job, ReportProgress
from gradients.execution.process import ProcessExecutor
from gradients.execution.warm import WarmExecutor
from gradients.repo.store import ContentStore
from gradients.testing.clock import HandClock
from gradients.testing.cpu_devices import cpu_devices
from gradients.testing.fake_chain import FakeChain
from gradients.testing.sandboxes import reason_to_skip
from gradients.testing.task_samples.instruct import SAMPLE
from tests.e2e.broken_entrants import FAULT, FUNCTION
from tests.unit.validator.market import PREPARED, WINDOW, claimed, collected, failures, tiny_bases
from validator.folders import Folders
from validator.ledger import Ledger
from validator.settings import MeasureSettings
from validator.stages.measure import MeasureStage

MINERS = [f"miner-{number:02}" for number in range(16)]
LAYERS, HIDDEN, RANK = 2, 48, 4
CLOCK_SECONDS = 600.0  # nothing here is to run into it but a hang
FAULTS = {"nan": 0, "hang": 8, "segv": 15, "kill": 8, "memory": 3}  # and where among the miners


class Ahead(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward: nobody has to wait for what hangs."""

    seconds = 0.0

    def time(self) -> float:
        return super().time() + self.seconds


class Counting(ProcessExecutor):
    """Counts how many workers were started to keep a base."""

    started = 0

    async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
        self.started += job.function.endswith(":serve")
        return await super().run(job, report=report)


@dataclass
class Breakable:
    """Runs the metric that breaks where an entrant's folder says so; once one hangs, its time is over."""

    inner: WarmExecutor
    hangs: str | None
    at_once: int = 0
    most_at_once: int = 0

    async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
        """See Executor."""

        def told(said: JsonObject) -> None:
            report(said)
            loop = asyncio.get_running_loop()
            if said.get("entrant") == self.hangs and isinstance(loop, Ahead):
                loop.seconds += CLOCK_SECONDS

        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self.inner.run(replace(job, function=FUNCTION, packages=("tests",)), report=told)
        finally:
            self.at_once -= 1


class Field:
    """Tasks with sixteen adapters each, and the step that measures them."""

    def __init__(
        self, folder: Path, *, faults: Mapping[str, str], devices: Devices, tasks: Sequence[str] = ("0" * 12,)
    ) -> None:
        self.ledger = Ledger.open(f"sqlite:///{folder}/ledger.db", HandClock())
        self.folder, self.folders, self.tasks = folder, Folders(folder), [TaskId(f"instruct-{each}") for each in tasks]
        self.plain = Counting(sandboxed=not reason_to_skip(), grace_seconds=0.5)
        warm = WarmExecutor(self.plain, folder / "workers", sandboxed=not reason_to_skip())
        self.executor = Breakable(warm, next((miner for miner, fault in faults.items() if fault == "hang"), None))
        self.bases, self.store, self.devices = tiny_bases(folder), ContentStore(folder / "blobs"), devices
        rows = self.store.path(PREPARED.held_out.sha256)
        rows.parent.mkdir(parents=True)
        texts = [{"prompt": row["instruction"], "completion": row["output"]} for row in SAMPLE.rows[:24]]
        rows.write_text("".join(json.dumps(row) + "\n" for row in texts))
        for task in self.tasks:
            collected(self.ledger, MINERS, task_id=task)
            for number, miner in enumerate(MINERS):
                self.hand_in(self.folders.submission(task, miner), number, faults.get(miner, ""))

    def hand_in(self, folder: Path, seed: int, fault: str) -> None:
        """An adapter of random numbers; "nan" has some whose products overflow in the model."""
        folder.mkdir(parents=True)
        drawn = np.random.default_rng(seed)
        size = 1e18 if fault == "nan" else 0.05
        factors = {
            f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{side}.weight": (
                drawn.standard_normal((RANK, HIDDEN) if side == "A" else (HIDDEN, RANK)) * size
            ).astype(np.float32)
            for layer in range(LAYERS)
            for side in "AB"
        }
        save_file(factors, folder / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": ["q_proj"]}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        (folder / FAULT).write_text(fault)

    def measure(self) -> None:
        async def main() -> None:
            chain = FakeChain()
            await chain.advance(WINDOW.reveal_until_block)
            stage = MeasureStage(
                self.ledger,
                chain.gateway("validator"),
                self.bases,
                self.store,
                self.executor,
                self.devices,
                self.folders,
                MeasureSettings(deadline_seconds=CLOCK_SECONDS),
            )
            claims = [claimed(self.ledger, TaskState.COLLECTED, owner=task) for task in self.tasks]
            try:
                await asyncio.gather(*(stage.run(claim) for claim in claims))
            finally:
                await self.executor.inner.close()

        with asyncio.Runner(loop_factory=Ahead) as runner:
            runner.run(main())
        self.ledger.engine.dispose()

    def rows(self, task: int = 0) -> dict[str, Sequence[float]]:
        """Each measured entrant's values, row by row."""
        return {name: m.per_row for name, m in self.ledger.submissions.measurements(self.tasks[task]).items()}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sequence[float]]:
    """What everybody has when nobody breaks anything, on one device."""
    field = Field(tmp_path_factory.mktemp("clean"), faults={}, devices=cpu_devices(1))
    field.measure()
    assert set(field.rows()) == {BASE_ENTRANT, *MINERS}
    assert field.plain.started == 1
    return field.rows()


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_only_the_one_that_breaks_fails_wherever_it_stands(
    tmp_path: Path, clean: dict[str, Sequence[float]], fault: str
) -> None:
    broken = MINERS[FAULTS[fault]]
    field = Field(tmp_path, faults={broken: fault}, devices=cpu_devices(1))
    field.measure()
    blame = ("miner", "loss_out_of_bounds") if fault == "nan" else ("operator", "evaluation_failed")
    assert failures(field.ledger, field.tasks[0]) == {broken: blame}
    assert field.rows() == {name: rows for name, rows in clean.items() if name != broken}
    # the worker outlives a copy that dies; a hang is killed with its worker, once among others and once alone at the end
    assert field.plain.started == (2 if fault == "hang" else 1)


@pytest.mark.slow
def test_several_that_break_at_once_on_two_devices(tmp_path: Path, clean: dict[str, Sequence[float]]) -> None:
    broken = dict(zip(random.Random(5).sample(MINERS, 4), ("nan", "segv", "kill", "memory"), strict=True))
    field = Field(tmp_path, faults=broken, devices=cpu_devices(2))
    field.measure()
    assert set(failures(field.ledger, field.tasks[0])) == set(broken)
    assert field.rows() == {name: rows for name, rows in clean.items() if name not in broken}


def test_four_devices_measure_one_task_together_with_the_same_numbers(
    tmp_path: Path, clean: dict[str, Sequence[float]]
) -> None:
    field = Field(tmp_path, faults={}, devices=cpu_devices(4))
    field.measure()
    assert field.executor.most_at_once == 4
    assert field.rows() == clean


@pytest.mark.slow
def test_four_devices_measure_four_tasks_at_once(tmp_path: Path, clean: dict[str, Sequence[float]]) -> None:
    field = Field(tmp_path, faults={}, devices=cpu_devices(4), tasks=[f"{number:012x}" for number in range(4)])
    field.measure()
    assert field.executor.most_at_once == 4
    assert all(set(field.rows(task)) == set(clean) for task in range(4))
