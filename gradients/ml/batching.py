"""Which rows share a forward pass. Padding is work for nothing, so rows of equal length go together."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from gradients.ml.device import Device
from gradients.ml.text import Example

IGNORED = -100  # label of a token that does not count; torch's own convention
_WINDOW_BATCHES = 16  # batches between which rows are sorted by length: little padding, still a random order
_CPU_TOKENS = 2048
_CPU_MEASURING_TOKENS = (
    512  # what a layer works on stays in the cache: 1.2 times as fast as 2048 on SmolLM2, the same on nano-lm
)
_LEAST_SHARE, _SHORTEST_SHARE = 0.25, 0.75  # see plan_tightly
_GPU_TOKENS = 16_384
_LOGITS = 2**29  # numbers in the largest tensor of a batch, 2 GiB in float32


class Batch(NamedTuple):
    """Rows of one forward pass, padded on the right."""

    tokens: torch.Tensor  # [rows, longest], int64
    labels: torch.Tensor  # the same, IGNORED where a token does not count


def batch_tokens(device: Device, vocabulary: int) -> int:
    """How many tokens, padding included, one forward pass takes."""
    most = _GPU_TOKENS if device.name == "cuda" else _CPU_TOKENS
    return max(256, min(most, _LOGITS // vocabulary))


def measuring_tokens(device: Device, vocabulary: int) -> int:
    """How many tokens, padding included, one forward pass takes that needs no gradient, and logits of counted positions only."""
    most = _GPU_TOKENS if device.name == "cuda" else _CPU_MEASURING_TOKENS
    return max(256, min(most, 4 * _LOGITS // vocabulary))


def plan_tightly(lengths: Sequence[int], *, max_tokens: int) -> list[list[int]]:
    """As `plan_batches`, but a batch of a quarter of the tokens is not filled up with rows that are a quarter shorter than its longest."""
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[batches[-1][0]] if batches else 0
        rows = len(batches[-1]) if batches else 0
        fits = batches and (rows + 1) * longest <= max_tokens
        if fits and (rows * longest < _LEAST_SHARE * max_tokens or lengths[position] >= _SHORTEST_SHARE * longest):
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches


def plan_batches(lengths: Sequence[int], *, max_tokens: int) -> list[list[int]]:
    """Positions of all rows, longest first, in groups of at most `max_tokens` when padded; a longer row is alone.

    Longest first, so that memory runs out at once or never.
    """
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        # the first row of a batch is its longest
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= max_tokens:
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches


def epoch_batches(lengths: Sequence[int], *, batch_rows: int, seed: int) -> list[list[int]]:
    """Positions of all rows in random order, in groups of `batch_rows` rows of about equal length; the last one may be smaller."""
    shuffle = random.Random(seed)
    order = list(range(len(lengths)))
    shuffle.shuffle(order)
    batches: list[list[int]] = []
    for start in range(0, len(order), batch_rows * _WINDOW_BATCHES):
        window = sorted(order[start : start + batch_rows * _WINDOW_BATCHES], key=lambda i: lengths[i])
        batches += [window[i : i + batch_rows] for i in range(0, len(window), batch_rows)]
    shuffle.shuffle(batches)
    return batches


def pad(examples: Sequence[Example], device: Device) -> Batch:
    """The examples as tensors.

    Right padding needs no attention mask: a causal model never looks to the right, and labels leave the padding out.
    """
    longest = max(len(example.tokens) for example in examples)
    tokens = torch.zeros(len(examples), longest, dtype=torch.int64)
    labels = torch.full_like(tokens, IGNORED)
    for row, example in enumerate(examples):
        ids = torch.tensor(example.tokens)
        tokens[row, : len(ids)] = ids
        for span in example.spans:
            labels[row, span.start : span.stop] = ids[span.start : span.stop]
    return Batch(tokens.to(device.name), labels.to(device.name))


def endless_batches(lengths: Sequence[int], *, batch_rows: int, seed: int, rows_seen: int) -> Iterator[list[int]]:
    """Batches of epoch after epoch, from where a run goes on that has seen `rows_seen` rows."""
    epoch, to_skip = divmod(rows_seen, len(lengths))
    while True:
        for batch in epoch_batches(lengths, batch_rows=batch_rows, seed=seed + epoch):
            if to_skip >= len(batch):
                to_skip -= len(batch)
            else:
                to_skip = 0
                yield batch
        epoch += 1
