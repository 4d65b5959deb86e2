"""Answers that a model draws, each with its divergence from the reference, for less than drawing and reading everything again.

The model's log-probabilities are those that the answers were drawn by, where there is memory for them, and a prompt is read once for
all of its answers. Architectures whose prompts cannot be read apart (`reads_once`) take the long way, with the same numbers up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from gradients.ml.batching import plan_tightly
from gradients.ml.device import Device
from gradients.ml.policy import Reference, divergences
from gradients.ml.reading import Told, open_prompts, read_answers
from gradients.ml.rollouts import Drawn, Rollout, RolloutSettings, draw_batches, roll_out

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_KEPT_NUMBERS = 2**27  # log-probabilities that are kept with a batch of answers, 512 MiB


class Diverged(NamedTuple):
    """An answer and the mean over its tokens of KL(model || reference), nats per token."""

    rollout: Rollout
    kl: float


def roll_out_beside(
    model: PreTrainedModel,
    reference: Reference,
    prompts: Sequence[list[int]],
    settings: RolloutSettings,
    *,
    seed: int,
    device: Device,
    progress: Callable[[int], None] = lambda _: None,
    most_kept: int = _KEPT_NUMBERS,
) -> list[list[Diverged]]:
    """What `roll_out` gives, with what `divergences` finds for each answer up to rounding, which may be just below zero."""
    if not settings.padded:
        return _the_long_way(model, reference, prompts, settings, seed=seed, device=device, progress=progress)
    found: list[list[Diverged]] = [[] for _ in prompts]
    for drawn in draw_batches(
        model, prompts, settings, seed=seed, device=device, progress=progress, most_kept=most_kept
    ):
        with torch.inference_mode(), device.precision():
            kl = _divergences_of(drawn, model, reference, settings=settings, device=device)
        for row, rollout, nats in zip(drawn.rows, drawn.rollouts, kl, strict=True):
            found[row].append(Diverged(rollout, nats))
    return found


def _the_long_way(
    model: PreTrainedModel,
    reference: Reference,
    prompts: Sequence[list[int]],
    settings: RolloutSettings,
    *,
    seed: int,
    device: Device,
    progress: Callable[[int], None],
) -> list[list[Diverged]]:
    groups = roll_out(model, prompts, settings, seed=seed, device=device, progress=progress)
    rollouts = [rollout for group in groups for rollout in group]
    temperature, most = settings.temperature, settings.batch_tokens
    kl = divergences(model, reference, rollouts, temperature=temperature, device=device, batch_tokens=most)
    nats = iter(kl)
    return [[Diverged(rollout, next(nats)) for rollout in group] for group in groups]


def _divergences_of(
    drawn: Drawn, model: PreTrainedModel, reference: Reference, *, settings: RolloutSettings, device: Device
) -> list[float]:
    """Of each answer of a batch. Answers of about equal length are read together."""
    prompts = {row: rollout.prompt for row, rollout in zip(drawn.rows, drawn.rollouts, strict=True)}
    place = {row: number for number, row in enumerate(prompts)}
    kept = drawn.log_probabilities
    with reference(model) as other:
        theirs = open_prompts(other, list(prompts.values()), device)
    ours = theirs if kept is not None else open_prompts(model, list(prompts.values()), device)
    found = [0.0] * len(drawn.rollouts)
    lengths = [len(rollout.completion) for rollout in drawn.rollouts]
    for positions in plan_tightly(lengths, max_tokens=settings.batch_tokens):
        answers = [drawn.rollouts[i].completion for i in positions]
        rows = theirs.mask.new_tensor([place[drawn.rows[i]] for i in positions])
        with reference(model):
            told = read_answers(theirs.select(rows), answers)
        q = _likely(told, settings)
        if kept is None:
            p = _likely(read_answers(ours.select(rows), answers), settings)
        else:
            p = kept[theirs.mask.new_tensor(positions)[told.rows], told.steps]
        sums = told.sums((p.exp() * (p - q)).sum(dim=-1))
        for position, answer, total in zip(positions, answers, sums, strict=True):
            found[position] = total / len(answer)
    return found


def _likely(told: Told, settings: RolloutSettings) -> torch.Tensor:
    """Log-probabilities before each token [tokens, vocabulary]."""
    return torch.log_softmax(told.logits.float() / settings.temperature, dim=-1)
