"""One small objective of each kind that both engines make smaller, and the engines by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from gradients.ml.adapters import LoraShape, add_adapter
from gradients.ml.base_model import LoadedBase
from gradients.ml.device import Device
from gradients.ml.engine import Engine, OwnEngine
from gradients.ml.micro_batches import MicroBatches
from gradients.ml.objective import CompletionObjective, Objective, Weighting
from gradients.ml.policy import adapter_off, copied
from gradients.ml.policy_objective import PolicyObjective, PolicySettings
from gradients.ml.preference import PairLogs, PreferenceObjective, PreferenceRow, encode_pairs, measure_pairs
from gradients.ml.rollouts import Rollout, RolloutSettings
from gradients.ml.text import ChatFormat, Example
from gradients.ml.trainee import Trainee
from gradients.ml.trl_engine import trl_engine

CPU = Device("cpu")
ENGINES = ("ours", "trl")
DRAWING = RolloutSettings(samples=4, max_new_tokens=8, temperature=1.0, stop_tokens=(2,), batch_tokens=128)


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


def judged(rows: Sequence[int], rollouts: Sequence[Rollout]) -> list[float]:
    """Short answers, and first tokens that nobody expects."""
    return [1 / len(each.completion) + each.completion[0] % 7 / 7 for each in rollouts]


def rewards_on(base: LoadedBase, method: str, *, beta: float) -> PolicyObjective:
    return PolicyObjective(
        train=[[5, 6, 7], [8, 9, 10, 11, 12], [13], [14, 15]],
        validation=[[9, 4], [7]],
        judge=judged,
        judge_validation=judged,
        reference=adapter_off if method == "lora" else copied(base.model),
        settings=PolicySettings(drawing=DRAWING, validation_samples=2, beta=beta, seed=3),
        device=CPU,
        micro=MicroBatches(CPU, vocabulary=base.vocabulary),
    )
