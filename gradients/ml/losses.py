"""Cross-entropy of completions, row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn.functional import cross_entropy

from gradients.ml.batching import IGNORED, Batch, pad, plan_batches
from gradients.ml.device import Device
from gradients.ml.text import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class RowLosses(NamedTuple):
    """Sums over the counted tokens of each row."""

    sums: torch.Tensor  # [rows], float64, nats
    tokens: torch.Tensor  # [rows], int64, at least 1


class RowLoss(NamedTuple):
    """One row's loss as plain numbers."""

    mean: float  # nats per counted token
    tokens: int


def batch_losses(model: PreTrainedModel, batch: Batch) -> RowLosses:
    """The losses of one batch, differentiable.

    use_cache=False is not about speed: with a cache, transformers (5.23, SDPA) builds masks for it and lets packed rows see
    one another. Only positions that some row counts go through the head.
    """
    targets = batch.labels[:, 1:]
    counted = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)
    logits = model(input_ids=batch.tokens, use_cache=False, logits_to_keep=counted).logits.float()
    targets = targets[:, counted]
    losses = cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    # float64, so that a sum does not depend on how many rows share the batch
    return RowLosses(losses.view_as(targets).double().sum(dim=1), (targets != IGNORED).sum(dim=1))


def measure_rows(
    model: PreTrainedModel,
    examples: Sequence[Example],
    *,
    device: Device,
    max_tokens: int,
    progress: Callable[[int], None] = lambda _: None,
) -> list[RowLoss]:
    """Each example's loss, in their order; `progress` is told how many rows are done."""
    measured: list[RowLoss | None] = [None] * len(examples)
    done = 0
    for positions in plan_batches([len(example.tokens) for example in examples], max_tokens=max_tokens):
        with torch.inference_mode(), device.precision():
            losses = batch_losses(model, pad([examples[i] for i in positions], device))
        means, tokens = (losses.sums / losses.tokens).tolist(), losses.tokens.tolist()
        for position, mean, count in zip(positions, means, tokens, strict=True):
            measured[position] = RowLoss(mean, count)
        done += len(positions)
        progress(done)
    return [loss for loss in measured if loss is not None]
