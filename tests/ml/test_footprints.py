"""What a step of each type really takes of memory on the shipped base, against what its plan reckons with (gradients/tasks/footprint.py).

Counted are the bytes of all tensors that are alive at the same time, which is the same on every machine.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import gradients
from gradients.ml.adapters import LoraShape, add_adapter
from gradients.ml.base_model import LoadedBase, load_base
from gradients.ml.micro_batches import MicroBatches, compute_layers_again
from gradients.ml.objective import CompletionObjective, Objective
from gradients.ml.policy import adapter_off, copied
from gradients.ml.policy_objective import PolicyObjective, PolicySettings
from gradients.ml.preference import Pair, PairLogs, PreferenceObjective
from gradients.ml.rollouts import Rollout, RolloutSettings
from gradients.ml.text import Example
from gradients.tasks.footprint import Way, footprint, shape_in
from gradients.tasks.jobs.training import TrainingPlan
from gradients.tasks.registry import task_type
from tests.ml.conftest import CPU

NANO_LM = Path(gradients.__file__).parent / "assets" / "models" / "nano-lm"
ROW, ROWS = 256, 4  # tokens of a row, and rows of a step
ANSWER = 24  # tokens of a drawn answer, in a row
Method = Literal["lora", "full"]


class Alive(TorchDispatchMode):  # type: ignore[misc] # torch carries no types there
    """Counts the bytes of tensors that are made while it is on, and the most that there are at a time; not what a model has already."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.now = self.peak = 0
        before = [*model.parameters(), *model.buffers()]  # of which views may be made
        self._known = {tensor.untyped_storage()._cdata: 0 for tensor in before}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401 (torch's)
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._known:
            self._known[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._known.pop(key)


def example(row: int, *, prompt: int = 1, length: int = ROW) -> Example:
    return Example([3 + (7 * row + place) % 1000 for place in range(length)], (range(prompt, length),))


def completions(base: LoadedBase, _: Method, micro: MicroBatches) -> Objective:
    rows = [example(row) for row in range(ROWS)]
    return CompletionObjective(train=rows, validation=[], weighting="row", device=CPU, micro=micro)


def preferences(base: LoadedBase, _: Method, micro: MicroBatches) -> Objective:
    pairs = [Pair(example(row, prompt=9), example(row + ROWS, prompt=9)) for row in range(ROWS)]
    return PreferenceObjective(
        train=pairs,
        validation=[],
        reference=lambda some: [PairLogs(-1.0, -2.0)] * len(some),
        beta=0.1,
        sft_weight=0.0,
        device=CPU,
        micro=micro,
    )


def judged(rows: Sequence[int], rollouts: Sequence[Rollout]) -> list[float]:
    return [each.completion[0] % 7 / 7 for each in rollouts]


def rewards(base: LoadedBase, method: Method, micro: MicroBatches) -> Objective:
    drawing = RolloutSettings(samples=4, max_new_tokens=ANSWER, temperature=1.0, stop_tokens=(), batch_tokens=2_048)
    return PolicyObjective(
        train=[example(row, length=ROW - ANSWER).tokens for row in range(ROWS)],
        validation=[],
        judge=judged,
        judge_validation=judged,
        reference=adapter_off if method == "lora" else copied(base.model),
        settings=PolicySettings(drawing=drawing, validation_samples=2, beta=0.04, seed=3),
        device=CPU,
        micro=micro,
    )


class Type(NamedTuple):
    """A type's objective, and the parameters for rows of so many tokens."""

    name: str
    make: Callable[[LoadedBase, Method, MicroBatches], Objective]
    parameters: dict[str, Any]  # Any: JSON


TYPES: dict[str, Type] = {
    each.name: each
    for each in (
        Type("instruct", completions, {"max_tokens": ROW}),
        Type("dpo", preferences, {"max_tokens": ROW}),
        Type(
            "grpo",
            rewards,
            {"max_tokens": ROW - ANSWER, "max_new_tokens": ANSWER, "rewards": [{"kind": "length", "at_most": 9}]},
        ),
    )
}


@functools.cache
def measured(name: str, method: Method, *, checkpointing: bool, tokens: int) -> tuple[int, int]:
    """Bytes that were alive at the most in a step, and those that were planned for it beside weights and moments."""
    kind, base = TYPES[name], load_base(NANO_LM, CPU)
    parameters = sum(weight.numel() for weight in base.model.parameters())
    if checkpointing:
        compute_layers_again(base.model)
    with Alive(base.model) as meter:
        micro = MicroBatches(CPU, vocabulary=base.vocabulary, most=tokens)
        objective = kind.make(base, method, micro)
        model = add_adapter(base.model, LoraShape(rank=8, alpha=8.0)) if method == "lora" else base.model
        if method == "full":
            model.requires_grad_(True)
        model.train()
        objective.backward(model, range(ROWS))
    declared = task_type(kind.name)
    load = declared.load(declared.schema.model_validate(kind.parameters), plan())
    way = Way(method, 8, checkpointing=checkpointing)
    taken = footprint(shape_in(NANO_LM, parameters), way, gpu_bytes=None, logits=load.logits, reference=load.reference)
    assert micro.tokens == tokens  # nothing was halved
    moments = taken.trained * (
        8 / 12 if method == "full" else 8 / 18
    )  # which the first step makes after its backward pass
    return meter.peak, int(taken.total(max(tokens, load.tokens)) - taken.weights - moments)


def plan() -> TrainingPlan:
    return TrainingPlan(recipe="test", method="lora", learning_rate=1e-3, max_tokens=2_048)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("method", "checkpointing"), [("lora", False), ("full", False), ("full", True)])
def test_a_step_of_the_longest_rows_takes_what_was_planned_or_less(
    kind: str, method: Method, checkpointing: bool
) -> None:
    peak, planned = measured(kind, method, checkpointing=checkpointing, tokens=32)
    assert 0.4 * planned <= peak <= planned
    if not checkpointing and kind != "grpo":
        more, planned_more = measured(kind, method, checkpointing=False, tokens=2 * ROW)
        assert more <= planned_more


def test_what_a_type_holds_more_of_is_seen() -> None:
    """A pair takes twice a row's memory, and rewards on all weights a copy of the base beside their gradients."""
    (row, _), (pair, _), (full, _) = (measured(kind, "full", checkpointing=False, tokens=32) for kind in TYPES)
    lora, _ = measured("grpo", "lora", checkpointing=False, tokens=32)
    all_weights = 4 * sum(weight.numel() for weight in load_base(NANO_LM, CPU).model.parameters())
    assert pair - all_weights == pytest.approx(2 * (row - all_weights), rel=0.1)
    assert full - lora > 1.9 * all_weights
