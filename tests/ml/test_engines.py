"""What holds whoever makes the steps: one suite over our own loop and TRL's trainers, at a tiny size."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Literal

import pytest
import torch

from gradients.domain.json import JsonObject
from gradients.errors import JobFailed
from gradients.ml.adapters import LoraShape, add_adapter
from gradients.ml.base_model import LoadedBase, load_base
from gradients.ml.checkpoint import CheckpointFile, Tensors
from gradients.ml.device import Device
from gradients.ml.engine import Engine, OwnEngine, Stepped
from gradients.ml.losses import measure_rows
from gradients.ml.micro_batches import MicroBatches
from gradients.ml.objective import CompletionObjective, Objective, Weighting
from gradients.ml.policy import adapter_off, copied
from gradients.ml.policy_objective import PolicyObjective, PolicySettings
from gradients.ml.preference import PairLogs, PreferenceObjective, PreferenceRow, encode_pairs, measure_pairs
from gradients.ml.rollouts import Rollout, RolloutSettings
from gradients.ml.submission import applied
from gradients.ml.telling import Outcome, TrainingProgress
from gradients.ml.text import ChatFormat, Example
from gradients.ml.trainee import Trainee
from gradients.ml.training import TrainingRun, TrainingSettings
from gradients.ml.trl_engine import TrlEngine, speed_up, trl_engine
from gradients.ml.trl_trainers import packed, token_weights
from gradients.tasks.instruct.trainer import train
from gradients.tasks.jobs import RepoCheckJob, TrainingPlan, TrainJob, TrainResult
from gradients.tasks.workers.checking import check

CPU = Device("cpu")
ENGINES = ("ours", "trl")
BATCHES = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
Made = Callable[[LoadedBase], Objective]


def completions(examples: list[Example], weighting: Weighting, *, micro_tokens: int = 90) -> CompletionObjective:
    """In parts of two or three rows."""
    micro = MicroBatches(CPU, vocabulary=2048, most=micro_tokens)
    return CompletionObjective(
        train=examples[:16], validation=examples[16:], weighting=weighting, device=CPU, micro=micro
    )


def preferences(base: LoadedBase) -> PreferenceObjective:
    rows = [PreferenceRow(prompt=f"Which is number {n}?", chosen=f"It is {n}.", rejected="No idea.") for n in range(16)]
    pairs = encode_pairs(ChatFormat(base.tokenizer), rows, max_tokens=64)

    def reference(some: object) -> list[PairLogs]:
        return measure_pairs(base.model, list(some), device=CPU, max_tokens=512)  # type: ignore[call-overload]

    return PreferenceObjective(
        train=pairs[:12],
        validation=pairs[12:],
        reference=reference,
        beta=0.1,
        sft_weight=0.0,
        device=CPU,
        micro=MicroBatches(CPU, vocabulary=2048, most=150),
    )


def engine_of(name: str, base: LoadedBase) -> Callable[[Trainee, Objective], Engine]:
    return OwnEngine if name == "ours" else trl_engine(base.tokenizer)


def trainable(base: LoadedBase, method: str) -> torch.nn.Module:
    torch.manual_seed(5)
    if method == "full":
        return base.model.requires_grad_(True)
    return add_adapter(base.model, LoraShape(rank=4, alpha=8.0))


def stepped_weights(name: str, base_folder: Path, made: Made, method: str) -> tuple[Tensors, list[float | None]]:
    """The weights after two runs of three steps each, with what the optimiser had learnt in the first, and the losses told."""
    base = load_base(base_folder, CPU)
    objective = made(base)
    trainee = Trainee(trainable(base, method), weight_decay=0.01, lora_plus_ratio=2.0)
    engine = engine_of(name, base)(trainee, objective)
    told: list[float | None] = []

    def stepped(rows: int, loss: float | None) -> bool:
        assert rows == len(BATCHES[len(told) % 3])
        told.append(loss)
        return len(told) % 3 != 0

    for rate in (1e-3, 5e-4):
        engine.run(cycle(BATCHES), batch_rows=4, rate=lambda rate=rate: rate, stepped=stepped)  # type: ignore[misc]
        trainee.load_moments(trainee.moments())
    return trainee.weights(), told


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("kind", ["row", "token", "pair"])
def test_both_engines_make_the_same_steps(
    base_folder: Path, examples: list[Example], kind: Literal["row", "token", "pair"], method: str
) -> None:
    def made(base: LoadedBase) -> Objective:
        return preferences(base) if kind == "pair" else completions(examples, kind)

    ours, losses = stepped_weights("ours", base_folder, made, method)
    theirs, theirs_losses = stepped_weights("trl", base_folder, made, method)
    assert theirs_losses == pytest.approx(losses, abs=1e-5)
    assert ours.keys() == theirs.keys()
    start = trainable(load_base(base_folder, CPU), method).state_dict()
    for name, weight in ours.items():
        assert (theirs[name] - weight).abs().max() < 5e-5
    assert max((weight - start[name]).abs().max().item() for name, weight in ours.items()) > 1e-3


@pytest.mark.parametrize("name", ENGINES)
def test_gradients_that_are_not_finite_change_nothing(base_folder: Path, examples: list[Example], name: str) -> None:
    base = load_base(base_folder, CPU)
    trainee = Trainee(trainable(base, "full"), weight_decay=0.0, lora_plus_ratio=1.0)
    before = trainee.weights()
    engine = engine_of(name, base)(trainee, completions(examples, "row"))
    base.model.get_input_embeddings().weight.register_hook(lambda gradient: gradient * float("nan"))
    told: list[float | None] = []
    engine.run(cycle(BATCHES), batch_rows=4, rate=lambda: 1e-2, stepped=lambda _, loss: bool(told.append(loss)))  # type: ignore[func-returns-value]
    assert told == [None]
    assert all(torch.equal(weight, before[name]) for name, weight in trainee.weights().items())


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
    """Runs of the tiny base under a clock that moves by a little whenever somebody looks at it."""

    def __init__(self, folder: Path, base_folder: Path, examples: list[Example], name: str) -> None:
        self.folder, self.base_folder, self.examples, self.name = folder, base_folder, examples, name
        self.time, self.rates, self.weights = 1000.0, list[float](), dict[str, torch.Tensor]()
        self.told: list[TrainingProgress] = []
        self.die_at: int | None = None

    def now(self) -> float:
        self.time += 0.05
        return self.time

    def report(self, progress: TrainingProgress) -> None:
        self.told.append(progress)
        if self.die_at is not None and progress.step >= self.die_at:
            raise InterruptedError("killed")

    def run(self, *, seconds: float, **changes: object) -> Outcome:
        plan = {"recipe": "test", "method": "lora", "learning_rate": 1e-2, "batch_rows": 4, "warmup_fraction": 0.0}
        settings = TrainingPlan.model_validate(plan | changes).model_dump(exclude={"recipe", "options"})
        base = load_base(self.base_folder, CPU)

        def engine(trainee: Trainee, objective: Objective) -> Engine:
            return Recorded(engine_of(self.name, base)(trainee, objective), self.rates)

        model = trainable(base, "lora")
        run = TrainingRun(
            model,
            completions(self.examples, "row"),
            TrainingSettings(**settings),
            seed=1,
            deadline=1000.0 + seconds,
            checkpoints=CheckpointFile(self.folder, "digest"),
            report=self.report,
            now=self.now,
            engine=engine,
        )
        outcome = run.run()
        self.weights = {
            name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad
        }
        return outcome


@pytest.fixture(params=ENGINES)
def runs(request: pytest.FixtureRequest, tmp_path: Path, base_folder: Path, examples: list[Example]) -> Runs:
    return Runs(tmp_path, base_folder, examples, request.param)


def test_a_run_ends_before_its_deadline_with_its_rate_at_zero(runs: Runs) -> None:
    outcome = runs.run(seconds=20, max_epochs=1e6, probe_learning_rates=(1e-2, 2e-2))
    assert 1000 + 0.8 * 20 < runs.time < 1000 + 20
    assert outcome.learning_rate in (1e-2, 2e-2)
    main = runs.rates[-outcome.steps :]
    assert main[0] > 0.9 * outcome.learning_rate
    assert main[-1] < 0.1 * outcome.learning_rate
    assert main == sorted(main, reverse=True)
    assert outcome.beats_base
    phases = dict.fromkeys(progress.phase for progress in runs.told)
    assert list(phases) == ["probing", "training"]
    assert runs.told[-1].fraction > 0.8


def test_a_run_that_died_goes_on_to_the_same_weights(
    runs: Runs, base_folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    whole = Runs(tmp_path / "whole", base_folder, examples, runs.name)
    expected = whole.run(seconds=1e4, max_epochs=6.0)  # so much time that rows alone say where the run stands
    runs.die_at = 3 * expected.steps // 5
    with pytest.raises(InterruptedError):
        runs.run(seconds=1e4, max_epochs=6.0)
    made, runs.die_at, runs.rates = len(runs.rates), None, []
    assert runs.run(seconds=1e4, max_epochs=6.0).steps == expected.steps
    assert expected.steps - made <= len(runs.rates) < expected.steps
    for name, weight in whole.weights.items():
        assert torch.allclose(runs.weights[name], weight, atol=1e-6)


def test_time_that_is_left_goes_into_further_runs(runs: Runs) -> None:
    outcome = runs.run(seconds=60, max_epochs=2.0, candidates=3)
    assert outcome.candidates == 3


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("name", ENGINES)
def test_what_is_delivered_can_be_measured_and_is_better_than_the_base(
    base: LoadedBase, examples: list[Example], train_job: Callable[..., TrainJob], name: str, method: str
) -> None:
    told: list[JsonObject] = []
    job = train_job(seconds=300, engine=name, method=method, max_epochs=6.0, rows=60)
    result = TrainResult.model_validate(train(job.model_dump(mode="json"), told.append))
    assert (result.engine, result.kind) == (name, "adapter" if method == "lora" else "full")
    assert result.tokens_per_second is not None
    assert result.tokens_per_second > 0
    assert time.time() < job.deadline_unix
    assert list(dict.fromkeys(progress["phase"] for progress in told)) == ["loading", "training", "saving"]
    looked = RepoCheckJob(base_folder=job.base_folder, repo_folder=job.output_folder)
    assert check(looked.model_dump(mode="json"), told.append)["changed"]

    def loss(folder: Path | None) -> float:
        with applied(base.model, folder):
            rows = measure_rows(base.model, examples, device=CPU, max_tokens=512)
        return sum(row.mean for row in rows) / len(rows)

    assert loss(job.output_folder) < 0.85 * loss(None)


def test_rows_behind_one_another_cost_what_they_cost_apart(base: LoadedBase, examples: list[Example]) -> None:
    """Torch's own attention keeps them apart by their positions as well, though slowly; so a CPU can tell."""
    some = examples[:5]
    weights = token_weights(some, "row")
    row = packed(some, weights, CPU)
    with torch.inference_mode():
        logits = base.model(input_ids=row.tokens, position_ids=row.positions, use_cache=False).logits[:, :-1]
        losses = torch.nn.functional.cross_entropy(logits[0], row.labels[0, 1:], ignore_index=-100, reduction="none")
    apart = measure_rows(base.model, some, device=CPU, max_tokens=512)
    expected = sum(one.mean for one in apart) / len(apart)
    assert float((losses * row.weights[0]).sum()) == pytest.approx(expected, abs=1e-5)
    assert row.labels[0, 0] == -100


def test_a_cpu_is_left_as_it_is(base: LoadedBase) -> None:
    assert speed_up(base.model, CPU, packs=True) == []
    assert base.model.config._attn_implementation == "sdpa"


def test_an_objective_that_no_trainer_of_the_fields_knows_is_refused(base_folder: Path) -> None:
    class Pictures:
        lengths = (1, 2, 3)

        def backward(self, model: object, rows: object) -> float:
            raise AssertionError("not reached")

        def validate(self, model: object) -> None:
            raise AssertionError("not reached")

    base = load_base(base_folder, CPU)
    trainee = Trainee(trainable(base, "full"), weight_decay=0.0, lora_plus_ratio=1.0)
    with pytest.raises(JobFailed, match="TRL has no trainer for a Pictures") as caught:
        TrlEngine(trainee, Pictures(), tokenizer=base.tokenizer)
    assert caught.value.code == "engine_unfit"
    assert "ours" in (caught.value.fix or "")


DRAWING = RolloutSettings(samples=4, max_new_tokens=8, temperature=1.0, stop_tokens=(2,), batch_tokens=128)


def judged(rows: Sequence[int], rollouts: Sequence[Rollout]) -> list[float]:
    """Short answers, and first tokens that nobody expects."""
    return [1 / len(each.completion) + each.completion[0] % 7 / 7 for each in rollouts]


def rewards_on(base: LoadedBase, method: str, *, beta: float) -> PolicyObjective:
    return PolicyObjective(
        train=[[5, 6, 7], [8, 9, 10, 11, 12], [13], [14, 15]],
        validation=[],
        judge=judged,
        judge_validation=judged,
        reference=adapter_off if method == "lora" else copied(base.model),
        settings=PolicySettings(drawing=DRAWING, validation_samples=2, beta=beta, seed=3),
        device=CPU,
        micro=MicroBatches(CPU, vocabulary=base.vocabulary),
    )


@pytest.mark.parametrize("method", ["lora", "full"])
def test_both_engines_follow_rewards_the_same_way(base_folder: Path, method: str) -> None:
    """TRL's spread of a group counts one answer less, which AdamW evens out; with a pull to the base its estimate is another one."""
    moved, losses = {}, {}
    for name in ENGINES:
        for beta in (0.0, 0.2):
            base = load_base(base_folder, CPU)
            objective = rewards_on(base, method, beta=beta)
            trainee = Trainee(trainable(base, method), weight_decay=0.0, lora_plus_ratio=1.0)
            before, told = trainee.weights(), list[float | None]()

            def stepped(_: int, loss: float | None, told: list[float | None] = told) -> bool:
                told.append(loss)
                return len(told) < 3

            engine_of(name, base)(trainee, objective).run(
                cycle([[0, 1], [2, 3]]), batch_rows=2, rate=lambda: 1e-3, stepped=stepped
            )
            after = trainee.weights()
            moved[name, beta] = torch.cat([(after[each] - before[each]).flatten() for each in after])
            losses[name, beta] = told
    assert losses["trl", 0.0] == pytest.approx(losses["ours", 0.0], abs=1e-5)
    assert losses["trl", 0.2] == pytest.approx(losses["ours", 0.2], abs=0.05)
    for beta, alike in ((0.0, 0.999), (0.2, 0.9)):
        assert torch.cosine_similarity(moved["trl", beta], moved["ours", beta], dim=0) > alike
    assert moved["ours", 0.0].abs().max() > 1e-3
