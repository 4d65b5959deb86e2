"""What a run makes smaller: the loss of completions, counted as the metric counts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import torch

from gradients.ml.batching import pad
from gradients.ml.device import Device
from gradients.ml.losses import batch_losses, measure_rows
from gradients.ml.micro_batches import MicroBatches
from gradients.ml.text import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Weighting = Literal["row", "token"]


class Objective(Protocol):
    """What the training loop needs to know of a task type."""

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each train row."""
        ...

    def backward(self, model: PreTrainedModel, rows: Sequence[int]) -> float:
        """Add the gradients of the mean loss of these train rows to the model's, and return that loss."""
        ...

    def validate(self, model: PreTrainedModel) -> float | None:
        """The metric on rows kept from training, lower is better; None when there are none."""
        ...


class CompletionObjective:
    """Cross-entropy of completion tokens."""

    def __init__(
        self,
        *,
        train: Sequence[Example],
        validation: Sequence[Example],
        weighting: Weighting,
        device: Device,
        micro: MicroBatches,
    ) -> None:
        self.lengths = [len(example.tokens) for example in train]
        self.train = train
        self.weighting = weighting
        self.device = device
        self.micro = micro
        self._validation = validation

    def backward(self, model: PreTrainedModel, rows: Sequence[int]) -> float:
        counted = sum(self.train[row].counted for row in rows)

        def one(positions: Sequence[int]) -> float:
            batch = pad([self.train[rows[i]] for i in positions], self.device)
            with self.device.precision():
                losses = batch_losses(model, batch)
            by_row = self.weighting == "row"
            loss = (losses.sums / losses.tokens).sum() / len(rows) if by_row else losses.sums.sum() / counted
            loss.backward()
            return float(loss.item())

        return self.micro.total(model, [self.lengths[row] for row in rows], one)

    def validate(self, model: PreTrainedModel) -> float | None:
        if not self._validation:
            return None
        measured = measure_rows(model, self._validation, device=self.device, max_tokens=self.micro.tokens)
        return statistics.fmean(row.mean for row in measured)


def split_validation(rows: int, *, fraction: float, seed: int, most: int = 256) -> tuple[list[int], list[int]]:
    """Positions of train and validation rows. Few rows (under 20) are all trained on: too few to choose by."""
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed)).tolist()
    kept = min(most, max(1, round(fraction * rows))) if fraction > 0 and rows >= 20 else 0
    return sorted(order[kept:]), sorted(order[:kept])
