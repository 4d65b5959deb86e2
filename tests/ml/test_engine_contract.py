"""What a run keeps whoever makes its steps: one suite over both engines and the kinds of objectives that both of them know.

Its deadline, what people see of it, a kill -9, whole model files, and a better model by the metric of the task's type.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from gradients.domain.json import JsonObject
from gradients.errors import JobFailed
from gradients.execution.functions import resolve
from gradients.execution.job import Held, Job
from gradients.execution.process import ProcessExecutor
from gradients.execution.warm import WarmExecutor
from gradients.ml.base_model import LoadedBase, load_base
from gradients.ml.checkpoint import CheckpointFile, Position
from gradients.ml.engine import Engine, Stepped
from gradients.ml.objective import Objective
from gradients.ml.telling import Outcome, TrainingProgress
from gradients.ml.text import Example
from gradients.ml.trainee import Trainee
from gradients.ml.training import TrainingRun, TrainingSettings
from gradients.tasks.jobs.models import RepoCheckJob
from gradients.tasks.jobs.training import TrainingPlan, TrainJob, TrainResult
from gradients.tasks.workers.checking import check
from tests.contract.prepared import Prepared, prepare_sample
from tests.ml.objectives import CPU, ENGINES, completions, engine_of, preferences, rewards_on, trainable

KINDS = ("instruct", "dpo", "grpo")
FUNCTIONS = "gradients.testing.worker_functions"

# On a clock that nobody waits for


class Recorded:
    """An engine that writes down at which rates another one makes its steps."""

    def __init__(self, engine: Engine, rates: list[float]) -> None:
        self._engine, self._rates = engine, rates

    def run(
        self, batches: Iterator[list[int]], *, batch_rows: int, rate: Callable[[], float], stepped: Stepped
    ) -> None:
        def asked() -> float:
            self._rates.append(rate())
            return self._rates[-1]

        self._engine.run(batches, batch_rows=batch_rows, rate=asked, stepped=stepped)


class Runs:
    """Runs of a tiny LoRA under a clock that moves by a little whenever somebody looks at it."""

    def __init__(
        self, folder: Path, base_folder: Path, engine: str, objective: Callable[[LoadedBase], Objective]
    ) -> None:
        self.folder, self.base_folder, self.engine, self.objective = folder, base_folder, engine, objective
        self.time, self.rates = 1000.0, list[float]()
        self.told: list[TrainingProgress] = []

    def now(self) -> float:
        self.time += 0.1
        return self.time

    def run(self, *, seconds: float, **changes: object) -> Outcome:
        plan = {"recipe": "test", "method": "lora", "learning_rate": 1e-2, "batch_rows": 2, "warmup_fraction": 0.0}
        settings = TrainingPlan.model_validate(plan | changes).model_dump(exclude={"recipe", "options"})
        base = load_base(self.base_folder, CPU)

        def engine(trainee: Trainee, objective: Objective) -> Engine:
            return Recorded(engine_of(self.engine, base)(trainee, objective), self.rates)

        objective = self.objective(base)  # of the untouched base
        run = TrainingRun(
            trainable(base, "lora"),
            objective,
            TrainingSettings(**settings),
            seed=1,
            deadline=1000.0 + seconds,
            checkpoints=CheckpointFile(self.folder, "digest"),
            report=self.told.append,
            now=self.now,
            engine=engine,
        )
        return run.run()


def objective_of(kind: str, examples: list[Example]) -> Callable[[LoadedBase], Objective]:
    made: dict[str, Callable[[LoadedBase], Objective]] = {
        "instruct": lambda _: completions(examples, "row"),
        "dpo": preferences,
        "grpo": lambda base: rewards_on(base, "lora", beta=0.1),
    }
    return made[kind]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_ends_before_its_deadline_with_its_rate_at_zero(
    engine: str, kind: str, tmp_path: Path, base_folder: Path, examples: list[Example]
) -> None:
    runs = Runs(tmp_path, base_folder, engine, objective_of(kind, examples))
    outcome = runs.run(seconds=20, max_epochs=1e6, probe_learning_rates=(1e-2, 2e-2))
    assert 1000 + 0.8 * 20 < runs.time < 1000 + 20
    assert outcome.learning_rate in (1e-2, 2e-2)
    main = runs.rates[-outcome.steps :]
    assert main[0] > 0.9 * outcome.learning_rate
    assert (
        main[-1] < 2 * outcome.learning_rate / outcome.steps
    )  # a straight line to zero has half that at its last step
    assert main == sorted(main, reverse=True)
    phases = dict.fromkeys(progress.phase for progress in runs.told)
    assert list(phases) == ["probing", "training"]
    assert runs.told[-1].fraction > 0.8


def test_time_that_is_left_goes_into_further_runs(
    engine: str, tmp_path: Path, base_folder: Path, examples: list[Example]
) -> None:
    runs = Runs(tmp_path, base_folder, engine, objective_of("instruct", examples))
    assert runs.run(seconds=60, max_epochs=2.0, candidates=3, batch_rows=4).candidates == 3


# In worker processes


@dataclass(frozen=True)
class Case:
    """A training of a type's sample by one engine."""

    prepared: Prepared
    engine: str
    method: str

    def job(self, place: str) -> TrainJob:
        folder = self.prepared.folder / f"{self.engine}-{self.method}" / place
        return self.prepared.job(folder, engine=self.engine, method=self.method)

    def train(self, place: str) -> Trained:
        """Here, to its end."""
        told: list[JsonObject] = []
        said = resolve(self.prepared.kind.train)(self.job(place).model_dump(mode="json"), told.append)
        return Trained(TrainResult.model_validate(said), self.job(place).output_folder, told)

    @cached_property
    def whole(self) -> Trained:
        """Without a kill."""
        return self.train("whole")


class Trained(NamedTuple):
    """What came of a training."""

    result: TrainResult
    output: Path
    told: list[JsonObject]

    def weights(self) -> dict[str, torch.Tensor]:
        [file] = self.output.glob("*.safetensors")
        found: dict[str, torch.Tensor] = load_file(file)
        return found


CASES = [(kind, engine, "lora") for kind in KINDS for engine in ENGINES] + [
    ("instruct", each, "full") for each in ENGINES
]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    prepared = {kind: prepare_sample(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}
    return [Case(prepared[kind], engine, method) for kind, engine, method in CASES]


@pytest.fixture(params=range(len(CASES)), ids=["-".join(case) for case in CASES])
def case(request: pytest.FixtureRequest, cases: list[Case]) -> Case:
    return cases[int(request.param)]


def test_what_is_delivered_is_whole_and_better_than_the_base(case: Case, tmp_path: Path) -> None:
    trained = case.whole
    result = trained.result
    assert (result.engine, result.kind) == (case.engine, "adapter" if case.method == "lora" else "full")
    assert result.tokens_per_second is not None
    assert result.tokens_per_second > 0
    assert result.beats_base
    assert list(dict.fromkeys(progress["phase"] for progress in trained.told)) == ["loading", "training", "saving"]
    lora, full = ["adapter_config.json", "adapter_model.safetensors"], ["config.json", "model.safetensors"]
    assert sorted(file.name for file in trained.output.iterdir()) == (lora if case.method == "lora" else full)
    assert sorted(file.name for file in trained.output.parent.iterdir()) == ["checkpoints", "output"]
    looked = RepoCheckJob(base_folder=case.prepared.base, repo_folder=trained.output)
    assert check(looked.model_dump(mode="json"), trained.told.append)["changed"]
    measured = case.prepared.measure({"base": None, "ours": trained.output}, results=tmp_path)
    assert case.prepared.is_better(measured["ours"], measured["base"])


@pytest.fixture(scope="module")
def killed(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each case was begun in a worker of its own, which was killed with -9 behind a checkpoint."""
    folder = tmp_path_factory.mktemp("killed")
    modules = ["gradients.tasks.workers.training", "gradients.ml.adapters", "gradients.ml.trl_policy"]
    imported = Held(f"{FUNCTIONS}:import_modules", {"modules": modules})  # once, not in each worker

    async def begin() -> None:
        executor = WarmExecutor(ProcessExecutor(), folder / "workers", sandboxed=False)
        try:
            for number, case in enumerate(cases):
                arguments: JsonObject = {
                    "train": case.prepared.kind.train,
                    "job": case.job("killed").model_dump(mode="json"),
                }
                function, place = f"{FUNCTIONS}:train_until_killed", folder / f"job-{number}"
                job = Job(function, arguments, place, deadline_seconds=600, holds=imported)
                with pytest.raises(JobFailed) as caught:
                    await executor.run(job, report=lambda _: None)
                assert caught.value.code == "job_killed", caught.value
        finally:
            await executor.close()

    asyncio.run(begin())


@pytest.mark.slow
@pytest.mark.usefixtures("killed")
def test_a_run_whose_worker_was_killed_goes_on_to_the_same_model(case: Case) -> None:
    left = position_in(case.job("killed").checkpoint_folder)
    again, whole = case.train("killed"), case.whole
    assert 0 < left.steps < whole.result.steps
    assert next(said["step"] for said in again.told if said["phase"] == "training") == left.steps + 1
    assert (again.result.steps, again.result.rows_seen) == (whole.result.steps, whole.result.rows_seen)
    theirs = whole.weights()
    assert again.weights().keys() == theirs.keys()
    for name, weight in again.weights().items():
        assert torch.allclose(weight, theirs[name], atol=1e-6)


def position_in(folder: Path) -> Position:
    """Where a run that left its checkpoint there was."""
    with safe_open(folder / "checkpoint.safetensors", framework="pt") as file:
        return Position.model_validate_json(file.metadata()["position"])
