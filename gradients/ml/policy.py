"""How likely a model finds answers that it drew, and how far its thinking is from another model's.

The divergence is the whole one, KL(model || reference) over the vocabulary at every token of the answer, not the usual estimate from the
drawn token alone (TRL's k3): that one is as right on average, but one unlikely token can cost an honest model the whole evaluation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch

from gradients.ml.batching import IGNORED, Batch, pad, plan_batches
from gradients.ml.device import Device
from gradients.ml.rollouts import Rollout
from gradients.ml.text import answered

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The context in which a model, perhaps the very one that is given, is the reference.
Reference = Callable[["PreTrainedModel"], AbstractContextManager["PreTrainedModel"]]


class TokenScores(NamedTuple):
    """Of each token of each answer, differentiable; zero where `counts` is not set."""

    log_probability: torch.Tensor  # [rows, tokens], of the token that was drawn, nats
    kl: torch.Tensor  # [rows, tokens], float64, nats
    counts: torch.Tensor  # [rows, tokens], bool


def copied(model: PreTrainedModel) -> Reference:
    """A copy of the model as it is now, for a model whose every weight may change."""
    frozen = copy.deepcopy(model).requires_grad_(False).eval()

    @contextmanager
    def reference(_: PreTrainedModel) -> Iterator[PreTrainedModel]:
        yield frozen

    return reference


@contextmanager
def adapter_off(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """The context in which a model with a LoRA is what it was before: no second copy is needed."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [layer for layer in model.modules() if isinstance(layer, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(enabled=False)
    try:
        yield model
    finally:
        for layer in layers:
            layer.enable_adapters(enabled=True)


def answer_batch(rollouts: Sequence[Rollout], device: Device) -> Batch:
    """Prompts and answers as tensors; the answers' tokens count."""
    return pad([answered(rollout.prompt, rollout.completion) for rollout in rollouts], device)


def token_scores(model: PreTrainedModel, reference: Reference, batch: Batch, *, temperature: float) -> TokenScores:
    """Likelihood and divergence of the answers' tokens, both at the temperature that they were drawn with."""
    targets = batch.labels[:, 1:]
    counted = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)
    targets = targets[:, counted]
    with torch.no_grad(), reference(model) as other:  # first, because adapters may be switched on and off for it
        theirs = _log_probabilities(other, batch, counted=counted, temperature=temperature)
    ours = _log_probabilities(model, batch, counted=counted, temperature=temperature)
    counts = targets != IGNORED
    drawn = ours.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    kl = (ours.exp() * (ours - theirs)).sum(dim=-1).double()
    return TokenScores(drawn.where(counts, drawn.new_zeros(())), kl.where(counts, kl.new_zeros(())), counts)


def divergences(
    model: PreTrainedModel,
    reference: Reference,
    rollouts: Sequence[Rollout],
    *,
    temperature: float,
    device: Device,
    batch_tokens: int,
) -> list[float]:
    """KL(model || reference) of each answer, in their order: the mean over its tokens, nats per token."""
    found = [0.0] * len(rollouts)
    lengths = [len(rollout.prompt) + len(rollout.completion) for rollout in rollouts]
    for positions in plan_batches(lengths, max_tokens=batch_tokens):
        batch = answer_batch([rollouts[i] for i in positions], device)
        with torch.inference_mode(), device.precision():
            scores = token_scores(model, reference, batch, temperature=temperature)
        means = (scores.kl.sum(dim=1) / scores.counts.sum(dim=1)).tolist()
        for position, mean in zip(positions, means, strict=True):
            found[position] = mean
    return found


def _log_probabilities(
    model: PreTrainedModel, batch: Batch, *, counted: torch.Tensor, temperature: float
) -> torch.Tensor:
    """[rows, counted, vocabulary], nats."""
    logits = model(input_ids=batch.tokens, use_cache=False, logits_to_keep=counted).logits
    return torch.log_softmax(logits.float() / temperature, dim=-1)
