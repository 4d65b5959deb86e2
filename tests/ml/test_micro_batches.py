"""Steps in micro-batches: memory that runs out changes how many rows go together, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from gradients.errors import JobFailed
from gradients.ml.base_model import LoadedBase, load_base
from gradients.ml.checkpoint import CheckpointFile
from gradients.ml.course import Course
from gradients.ml.engine import OwnEngine
from gradients.ml.micro_batches import MicroBatches, compute_layers_again
from gradients.ml.objective import CompletionObjective
from gradients.ml.text import Example
from gradients.ml.trainee import Trainee
from gradients.testing.tiny_models import write_tiny_llama
from tests.ml.conftest import CPU

ROWS = [Example(list(range(3, 3 + length)), (range(2, length),)) for length in (40, 9, 33, 64, 17, 21)]


@pytest.fixture
def base(tmp_path: Path) -> LoadedBase:
    found = load_base(write_tiny_llama(tmp_path / "base"), CPU)
    found.model.requires_grad_(True)
    found.model.train()
    return found


def gradients(base: LoadedBase, micro: MicroBatches) -> tuple[float, list[torch.Tensor]]:
    objective = CompletionObjective(train=ROWS, validation=[], weighting="row", device=CPU, micro=micro)
    base.model.zero_grad()
    loss = objective.backward(base.model, range(len(ROWS)))
    return loss, [weight.grad.clone() for weight in base.model.parameters() if weight.grad is not None]


def equal(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    return all(torch.allclose(mine, his, atol=1e-6) for mine, his in zip(one, other, strict=True))


def test_the_longest_rows_are_tried_first_and_nothing_is_left_of_it(base: LoadedBase, tmp_path: Path) -> None:
    micro, forward, tokens = MicroBatches(CPU, vocabulary=base.vocabulary, most=256), base.model.forward, list[int]()
    objective = CompletionObjective(train=ROWS, validation=[], weighting="row", device=CPU, micro=micro)
    trainee = Trainee(base.model, weight_decay=0.1, lora_plus_ratio=1.0)
    course = Course(
        trainee,
        objective,
        OwnEngine(trainee, objective),
        batch_rows=3,
        seed=1,
        checkpoints=CheckpointFile(tmp_path, "digest"),
        now=time.time,
    )
    before = trainee.weights()

    def limited(input_ids: torch.Tensor, **how: object) -> object:
        tokens.append(input_ids.shape[1])
        if input_ids.numel() > 100 or len(tokens) == 6:  # too large; and the last part of the second step, with moments
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(input_ids=input_ids, **how)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(base.model, "forward", limited)
        course.try_longest()
    assert max(tokens) == 64
    assert min(tokens) >= 33  # 64, 40 and 33 tokens are the longest of all
    assert micro.tokens == 32
    assert trainee.moments() == {}
    assert all(torch.equal(weight, before[name]) for name, weight in trainee.weights().items())
    assert course.position.steps == 0


def test_where_memory_runs_out_the_step_begins_anew_with_half_of_the_tokens(
    base: LoadedBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, wanted = gradients(base, MicroBatches(CPU, vocabulary=base.vocabulary))
    micro, forward, sizes = MicroBatches(CPU, vocabulary=base.vocabulary, most=256), base.model.forward, list[int]()

    def limited(input_ids: torch.Tensor, **how: object) -> object:
        sizes.append(input_ids.numel())
        if input_ids.numel() > 100 or len(sizes) == 3:  # too large, and once for no reason in the middle of a step
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(input_ids=input_ids, **how)

    monkeypatch.setattr(base.model, "forward", limited)
    found, ours = gradients(base, micro)
    assert found == pytest.approx(loss, abs=1e-6)
    assert equal(ours, wanted)
    assert micro.tokens in (64, 32)
    again, _ = gradients(base, micro)  # and stays there
    assert again == pytest.approx(loss, abs=1e-6)


def test_what_does_not_fit_row_by_row_is_said(base: LoadedBase, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(base.model, "forward", full)
    with pytest.raises(JobFailed, match="single rows") as caught:
        gradients(base, MicroBatches(CPU, vocabulary=base.vocabulary))
    assert caught.value.code == "out_of_memory"


def test_another_error_is_no_shortage(base: LoadedBase, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(**_: object) -> object:
        raise ValueError("a flaw")

    monkeypatch.setattr(base.model, "forward", wrong)
    with pytest.raises(ValueError, match="a flaw"):
        gradients(base, MicroBatches(CPU, vocabulary=base.vocabulary))


def test_layers_that_are_computed_again_give_the_same_gradients(base: LoadedBase) -> None:
    plain = gradients(base, MicroBatches(CPU, vocabulary=base.vocabulary))
    kept = _kept_bytes(base)
    compute_layers_again(base.model)
    again = gradients(base, MicroBatches(CPU, vocabulary=base.vocabulary))
    assert again[0] == pytest.approx(plain[0], abs=1e-6)
    assert equal(again[1], plain[1])
    assert _kept_bytes(base) < 0.7 * kept


def _kept_bytes(base: LoadedBase) -> int:
    """What the backward pass needs that the forward pass has computed."""
    kept = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        base.model(input_ids=torch.ones(2, 64, dtype=torch.int64))
    return kept
