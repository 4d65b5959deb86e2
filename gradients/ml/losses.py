"""Cross-entropy of completions, row by row."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn.functional import cross_entropy

from gradients.ml.batching import IGNORED, Batch, pad, plan_tightly
from gradients.ml.device import Device, is_out_of_memory
from gradients.ml.head import counted_logits
from gradients.ml.text import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_PART = 1024  # positions whose logits are in float32 at the same time


class RowLosses(NamedTuple):
    """Sums over the counted tokens of each row."""

    sums: torch.Tensor  # [rows], float64, nats
    tokens: torch.Tensor  # [rows], int64, at least 1


class RowLoss(NamedTuple):
    """One row's loss as plain numbers."""

    mean: float  # nats per counted token
    tokens: int


def batch_losses(model: PreTrainedModel, batch: Batch) -> RowLosses:
    """The losses of one batch, differentiable."""
    targets = batch.labels[:, 1:]
    counts = targets != IGNORED
    logits = counted_logits(model, batch.tokens, torch.cat([counts, counts.new_zeros(len(counts), 1)], dim=1))
    return row_losses(logits, targets, counts)


def row_losses(logits: torch.Tensor, targets: torch.Tensor, counts: torch.Tensor) -> RowLosses:
    """The losses of what is said before counted tokens.

    Args:
        logits: [counted, vocabulary], row by row.
        targets: [rows, positions], the tokens that come.
        counts: [rows, positions], bool.
    """
    parts = zip(logits.split(_PART), targets[counts].split(_PART), strict=True)
    losses = torch.cat([cross_entropy(part.float(), wanted, reduction="none") for part, wanted in parts])
    # float64, so that a sum does not depend on how many rows share the batch
    by_position = losses.new_zeros(targets.shape, dtype=torch.float64)
    by_position[counts] = losses.double()
    return RowLosses(by_position.sum(dim=1), counts.sum(dim=1))


def measure_rows(
    model: PreTrainedModel,
    examples: Sequence[Example],
    *,
    device: Device,
    max_tokens: int,
    progress: Callable[[int], None] = lambda _: None,
) -> list[RowLoss]:
    """Each example's loss, in their order; `progress` is told how many rows are done."""
    return measure_batches(
        [len(example.tokens) for example in examples],
        lambda positions: batch_losses(model, pad([examples[i] for i in positions], device)),
        device=device,
        max_tokens=max_tokens,
        progress=progress,
    )


def measure_batches(
    lengths: Sequence[int],
    losses_of: Callable[[list[int]], RowLosses],
    *,
    device: Device,
    max_tokens: int,
    progress: Callable[[int], None],
) -> list[RowLoss]:
    """The loss of each row, in batches of rows of about equal length; `progress` is told how many rows are done.

    Where memory runs out, batches are halved, down to single rows; that changes no row's loss by more than rounding does.

    Args:
        lengths: of the rows, in tokens.
        losses_of: the losses of the rows at these positions.
    """
    measured: list[RowLoss | None] = [None] * len(lengths)
    done = 0
    waiting = deque(plan_tightly(lengths, max_tokens=max_tokens))
    while waiting:
        positions = waiting.popleft()
        try:
            with torch.inference_mode(), device.precision():
                losses = losses_of(positions)
                means, tokens = (losses.sums / losses.tokens).tolist(), losses.tokens.tolist()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(positions) == 1:
                raise
            most = max(map(len, [positions, *waiting])) // 2
            waiting = deque(part for each in [positions, *waiting] for part in _parts(each, most))
            device.forget_unused()
            continue
        for position, mean, count in zip(positions, means, tokens, strict=True):
            measured[position] = RowLoss(mean, count)
        done += len(positions)
        progress(done)
    return [loss for loss in measured if loss is not None]


def _parts(positions: list[int], most: int) -> list[list[int]]:
    return [positions[start : start + most] for start in range(0, len(positions), most)]
