"""Likelihood, divergence and gradients of drawn answers, against torch's own functions and numbers worked out by hand."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import kl_div, log_softmax

from gradients.ml.adapters import LoraShape, add_adapter
from gradients.ml.base_model import LoadedBase, load_base
from gradients.ml.device import Device
from gradients.ml.losses import measure_rows
from gradients.ml.micro_batches import MicroBatches
from gradients.ml.policy import adapter_off, answer_batch, copied, divergences, token_scores
from gradients.ml.policy_objective import PolicyObjective, PolicySettings, group_advantages
from gradients.ml.rollout_divergences import roll_out_beside
from gradients.ml.rollouts import Rollout, RolloutSettings, roll_out
from gradients.ml.text import answered

CPU = Device("cpu")
PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12], [13], [14, 15]]
DRAWING = RolloutSettings(samples=4, max_new_tokens=8, temperature=1.0, stop_tokens=(2,), batch_tokens=512)


@pytest.fixture
def fresh(base_folder: Path) -> LoadedBase:
    """A base of the test's own, to change."""
    return load_base(base_folder, CPU)


@pytest.fixture
def changed(fresh: LoadedBase) -> LoadedBase:
    with torch.no_grad():
        for parameter in fresh.model.parameters():
            parameter.mul_(0.7)
    return fresh


def drawn(base: LoadedBase, samples: int = 4) -> list[Rollout]:
    settings = replace(DRAWING, samples=samples)
    return [answer for group in roll_out(base.model, PROMPTS, settings, seed=3, device=CPU) for answer in group]


def kl(
    model: LoadedBase,
    reference: LoadedBase,
    rollouts: Sequence[Rollout],
    *,
    temperature: float = 1.0,
    batch_tokens: int = 512,
) -> list[float]:
    return divergences(
        model.model, copied(reference.model), rollouts, temperature=temperature, device=CPU, batch_tokens=batch_tokens
    )


def log_probabilities(base: LoadedBase, rollout: Rollout, temperature: float) -> torch.Tensor:
    """[answer's tokens, vocabulary], one row at a time."""
    with torch.inference_mode():
        logits = base.model(input_ids=torch.tensor([rollout.prompt + rollout.completion]), use_cache=False).logits[0]
    return log_softmax(logits[len(rollout.prompt) - 1 : -1].double() / temperature, dim=-1)


def test_a_model_does_not_diverge_from_itself_by_a_single_bit(base: LoadedBase) -> None:
    assert kl(base, base, drawn(base)) == [0.0] * 16


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_divergence_is_torchs(base: LoadedBase, changed: LoadedBase, temperature: float) -> None:
    rollouts = drawn(changed)
    ours = kl(changed, base, rollouts, temperature=temperature)
    for rollout, value in zip(rollouts, ours, strict=True):
        p, q = (log_probabilities(model, rollout, temperature) for model in (changed, base))
        expected = kl_div(q, p, reduction="sum", log_target=True) / len(rollout.completion)
        assert value == pytest.approx(float(expected), abs=1e-5)
        assert value > 0


@pytest.mark.parametrize(("most_kept", "padded"), [(2**20, True), (0, True), (0, False)])
def test_answers_are_drawn_beside_the_reference_as_without_it(
    base: LoadedBase, changed: LoadedBase, most_kept: int, padded: bool
) -> None:
    """Whether log-probabilities are kept from drawing or not, and where prompts cannot be read apart."""
    settings = replace(DRAWING, temperature=0.7, stop_tokens=tuple(range(0, 320, 10)), padded=padded)
    reference = copied(base.model)
    found = roll_out_beside(changed.model, reference, PROMPTS, settings, seed=3, device=CPU, most_kept=most_kept)
    groups = roll_out(changed.model, PROMPTS, settings, seed=3, device=CPU)
    assert [[one.rollout for one in group] for group in found] == groups
    rollouts = [rollout for group in groups for rollout in group]
    assert len({len(rollout.completion) for rollout in rollouts}) > 1
    expected = divergences(changed.model, reference, rollouts, temperature=0.7, device=CPU, batch_tokens=1)
    assert min(expected) > 1e-3
    assert [one.kl for group in found for one in group] == pytest.approx(expected, abs=1e-5)


def test_the_divergence_does_not_depend_on_the_batch(base: LoadedBase, changed: LoadedBase) -> None:
    rollouts = drawn(changed)
    assert kl(changed, base, rollouts, batch_tokens=1) == pytest.approx(kl(changed, base, rollouts), abs=1e-6)


def test_the_usual_estimate_from_drawn_tokens_agrees_on_average(base: LoadedBase, changed: LoadedBase) -> None:
    """TRL's k3: exp(d) - d - 1 with d = log q - log p of the drawn token."""
    settings = replace(DRAWING, samples=3000, max_new_tokens=1, batch_tokens=100_000)
    (rollouts,) = roll_out(changed.model, PROMPTS[:1], settings, seed=3, device=CPU)
    p, q = (log_probabilities(model, rollouts[0], 1.0)[0] for model in (changed, base))
    gaps = [float(q[rollout.completion[0]] - p[rollout.completion[0]]) for rollout in rollouts]
    k3 = [math.exp(gap) - gap - 1 for gap in gaps]
    error = statistics.stdev(k3) / math.sqrt(len(k3))
    assert kl(changed, base, rollouts[:1])[0] == pytest.approx(statistics.fmean(k3), abs=4 * error)


def test_the_likelihood_of_an_answer_is_its_cross_entropy(base: LoadedBase) -> None:
    rollouts = drawn(base)
    with torch.inference_mode():
        scores = token_scores(base.model, copied(base.model), answer_batch(rollouts, CPU), temperature=1.0)
    examples = [answered(rollout.prompt, rollout.completion) for rollout in rollouts]
    losses = measure_rows(base.model, examples, device=CPU, max_tokens=512)
    assert (-scores.log_probability.sum(dim=1)).tolist() == pytest.approx(
        [loss.mean * loss.tokens for loss in losses], abs=1e-4
    )


def test_a_lora_switched_off_is_the_base_and_trains_on_afterwards(base: LoadedBase, fresh: LoadedBase) -> None:
    add_adapter(fresh.model, LoraShape(rank=4, alpha=8.0))
    with torch.no_grad():
        for name, parameter in fresh.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    tokens = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        plain, on = base.model(tokens).logits, fresh.model(tokens).logits
        with adapter_off(fresh.model) as model:
            off = model(tokens).logits
        again = fresh.model(tokens).logits
    assert torch.equal(off, plain)
    assert not torch.equal(on, plain)
    assert torch.equal(again, on)
    trainable = {name for name, parameter in fresh.model.named_parameters() if parameter.requires_grad}
    assert trainable
    assert all("lora_" in name for name in trainable)


def test_advantages_are_deviations_within_the_group() -> None:
    # mean 0.5, deviations of ±0.5, spread 0.5; a group where all are alike says nothing
    got = group_advantages([0.0, 1.0, 1.0, 0.0, 0.3, 0.3, 0.3, 0.3], size=4)
    assert got == pytest.approx([-1, 1, 1, -1, 0, 0, 0, 0], abs=1e-3)


# ---- the objective

Judge = Callable[[Sequence[int], Sequence[Rollout]], list[float]]


def brevity(rows: Sequence[int], rollouts: Sequence[Rollout]) -> list[float]:
    return [1.0 / len(rollout.completion) for rollout in rollouts]


def objective(
    base: LoadedBase, *, judge: Judge = brevity, beta: float = 0.1, micro: MicroBatches | None = None
) -> PolicyObjective:
    return PolicyObjective(
        train=PROMPTS,
        validation=PROMPTS[:2],
        judge=judge,
        judge_validation=judge,
        reference=copied(base.model),
        settings=PolicySettings(drawing=DRAWING, validation_samples=2, beta=beta, seed=5),
        device=CPU,
        micro=micro or MicroBatches(CPU, vocabulary=base.vocabulary),
    )


def test_a_step_taken_again_after_a_crash_draws_the_same_answers(fresh: LoadedBase) -> None:
    fresh.model.requires_grad_(True)
    gradients = []
    for _ in range(2):
        loss = objective(fresh).backward(fresh.model, [2, 0])
        gradients.append((loss, [parameter.grad.clone() for parameter in fresh.model.parameters()]))
        fresh.model.zero_grad()
    assert gradients[0][0] == gradients[1][0]
    assert all(map(torch.equal, gradients[0][1], gradients[1][1]))


def test_a_step_that_does_not_fit_is_made_in_smaller_parts_and_comes_to_the_same(
    fresh: LoadedBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device that holds 40 tokens of a backward pass, and the drawing of all answers."""
    fresh.model.requires_grad_(True)
    whole = objective(fresh).backward(fresh.model, [2, 0])
    wanted = [parameter.grad.clone() for parameter in fresh.model.parameters()]
    fresh.model.zero_grad()
    forward = fresh.model.forward

    def small(**given: Any) -> Any:  # noqa: ANN401 (a model's own arguments)
        if torch.is_grad_enabled() and given["input_ids"].numel() > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(**given)

    monkeypatch.setattr(fresh.model, "forward", small)
    micro = MicroBatches(CPU, vocabulary=fresh.vocabulary)
    parts = objective(fresh, micro=micro).backward(fresh.model, [2, 0])
    assert micro.tokens in (32, 64)
    assert parts == pytest.approx(whole, abs=1e-6)
    for parameter, gradient in zip(fresh.model.parameters(), wanted, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-6)


def test_answers_that_do_not_fit_are_drawn_fewer_at_a_time(fresh: LoadedBase, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = fresh.model.forward

    def small(**given: Any) -> Any:  # noqa: ANN401
        if len(given["input_ids"]) > 10:
            raise MemoryError
        return forward(**given)

    plain = objective(fresh).draw(fresh.model, range(4))
    monkeypatch.setattr(fresh.model, "forward", small)
    micro = MicroBatches(CPU, vocabulary=fresh.vocabulary)
    assert objective(fresh, micro=micro).draw(fresh.model, range(4)) == plain
    assert micro.tokens == 32


def test_each_answer_is_judged_by_its_own_row(fresh: LoadedBase) -> None:
    asked: list[tuple[int, list[int]]] = []

    def judge(rows: Sequence[int], rollouts: Sequence[Rollout]) -> list[float]:
        asked.extend((row, rollout.prompt) for row, rollout in zip(rows, rollouts, strict=True))
        return [0.5] * len(rollouts)

    fresh.model.requires_grad_(True)
    objective(fresh, judge=judge).backward(fresh.model, [3, 1])
    objective(fresh, judge=judge).validate(fresh.model)
    assert asked == [(row, PROMPTS[row]) for row in (3, 1) for _ in range(4)] + [
        (row, PROMPTS[row]) for row in (0, 1) for _ in range(2)
    ]


def test_rewards_that_are_all_alike_and_no_divergence_move_nothing(fresh: LoadedBase) -> None:
    fresh.model.requires_grad_(True)
    loss = objective(fresh, judge=lambda _, rollouts: [0.5] * len(rollouts)).backward(fresh.model, [0, 1])
    assert loss == pytest.approx(-0.5)
    assert max(float(parameter.grad.abs().max()) for parameter in fresh.model.parameters()) < 1e-6


def test_a_step_makes_good_answers_likelier(fresh: LoadedBase) -> None:
    wanted = 40

    def judge(rows: Sequence[int], rollouts: Sequence[Rollout]) -> list[float]:
        return [float(rollout.completion[0] < wanted) for rollout in rollouts]

    def likelihood() -> float:
        with torch.inference_mode():
            logits = fresh.model(input_ids=torch.tensor([PROMPTS[1]]), use_cache=False).logits[0, -1]
        return float(torch.softmax(logits, dim=-1)[:wanted].sum())

    before = likelihood()
    fresh.model.requires_grad_(True)
    objective(fresh, judge=judge).backward(fresh.model, [0, 1, 2, 3])
    with torch.no_grad():
        for parameter in fresh.model.parameters():
            parameter.sub_(parameter.grad, alpha=0.5)
    assert likelihood() > before


def test_sampling_leaves_the_model_in_the_mode_that_it_was_in(fresh: LoadedBase) -> None:
    fresh.model.requires_grad_(True).train()
    objective(fresh).backward(fresh.model, [0])
    assert fresh.model.training
    fresh.model.eval()
    objective(fresh).validate(fresh.model)
    assert not fresh.model.training
