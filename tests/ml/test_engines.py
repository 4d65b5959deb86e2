"""The steps themselves: our own loop and TRL's trainers make the same ones. What a run keeps with either is in test_engine_contract.py."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Literal

import pytest
import torch

from gradients.errors import JobFailed
from gradients.ml.base_model import LoadedBase, load_base
from gradients.ml.checkpoint import Tensors
from gradients.ml.losses import measure_rows
from gradients.ml.objective import Objective
from gradients.ml.text import Example
from gradients.ml.trainee import Trainee
from gradients.ml.trl_engine import TrlEngine, speed_up
from gradients.ml.trl_trainers import packed, token_weights
from tests.ml.objectives import CPU, ENGINES, completions, engine_of, preferences, rewards_on, trainable

BATCHES = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
Made = Callable[[LoadedBase], Objective]


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
