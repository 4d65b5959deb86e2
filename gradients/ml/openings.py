"""Rows that all begin alike, such as with one system message: what they share is read once for each model, and not once for each row."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from gradients.ml.batching import pad
from gradients.ml.device import Device
from gradients.ml.head import counted_logits
from gradients.ml.losses import RowLoss, RowLosses, measure_batches, measure_rows, row_losses
from gradients.ml.reading import open_prompts
from gradients.ml.text import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LEAST_SHARE = 0.1  # of all tokens that has to be saved


def shared_opening(examples: Sequence[Example]) -> list[int]:
    """The tokens that all rows begin with, before any that counts; none where it would not save a tenth of all tokens."""
    first, last = (pick([example.tokens for example in examples]) for pick in (min, max))
    shared = [one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))]
    # the token before one that counts stays with its row
    most = min((span.start - 1 for example in examples for span in example.spans), default=0)
    opening = list(shared[: max(0, most)])
    saved = len(opening) * (len(examples) - 1)
    return opening if saved >= LEAST_SHARE * sum(len(example.tokens) for example in examples) else []


def measure_behind(
    model: PreTrainedModel,
    examples: Sequence[Example],
    opening: Sequence[int],
    *,
    device: Device,
    max_tokens: int,
    progress: Callable[[int], None] = lambda _: None,
) -> list[RowLoss]:
    """What `measure_rows` finds, up to rounding, with `opening` read once; for models of which `reads_once` holds.

    Args:
        opening: what all examples begin with; nothing for rows that share nothing.
    """
    if not opening:
        return measure_rows(model, examples, device=device, max_tokens=max_tokens, progress=progress)
    with torch.inference_mode(), device.precision():
        read = open_prompts(model, [opening], device)
    rest = [_behind(example, len(opening)) for example in examples]

    def losses_of(positions: list[int]) -> RowLosses:
        batch = pad([rest[i] for i in positions], device)
        reading = read.select(read.mask.new_zeros(len(positions)))
        lengths = read.mask.new_tensor([len(rest[i].tokens) for i in positions])
        stands = torch.arange(batch.tokens.shape[1], device=lengths.device) < lengths[:, None]
        mask = torch.cat([reading.mask, stands.to(reading.mask.dtype)], dim=1)
        targets = batch.labels[:, 1:]
        counts = targets >= 0
        said = torch.cat([counts, counts.new_zeros(len(counts), 1)], dim=1)
        context = reading.context(mask, batch.tokens.shape[1])
        return row_losses(counted_logits(model, batch.tokens, said, **context), targets, counts)

    return measure_batches(
        [len(each.tokens) for each in rest], losses_of, device=device, max_tokens=max_tokens, progress=progress
    )


def _behind(example: Example, opening: int) -> Example:
    spans = tuple(range(span.start - opening, span.stop - opening) for span in example.spans)
    return Example(example.tokens[opening:], spans)
