"""Prompts that a model reads once, and what it says behind them: to answers that are known, or to what it writes itself.

Prompts stand at the right end of their rows, so that all answers begin in the same column. Rows may be repeated, taken apart and left out
between two steps. Covers architectures that keep keys and values and nothing else, of all columns or of a window (`reads_once`); states
that run through a row know nothing of padding, and cannot be taken apart.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn.functional import cross_entropy, log_softmax, pad
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from gradients.ml.batching import IGNORED, plan_batches
from gradients.ml.device import Device
from gradients.ml.losses import RowLoss

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ROUNDING, _COARSE_ROUNDING = 1e-4, 0.2  # nats by which two ways of reading differ in float32, and in 16 bits

_KINDS = {DynamicLayer, DynamicSlidingWindowLayer}

# The next tokens [rows] by the logits [rows, vocabulary], which of all rows these are [rows], and the step, from 0.
Choose = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


class Reading(NamedTuple):
    """Rows up to where a model has read them."""

    model: PreTrainedModel
    cache: DynamicCache
    mask: torch.Tensor  # [rows, columns], int64, 0 where nothing stands
    logits: torch.Tensor  # [rows, vocabulary], about what comes next

    def select(self, rows: torch.Tensor) -> Reading:
        """Some of the rows, perhaps several times, on their own; this reading stays as it is."""
        cache = copy.copy(self.cache)  # tensors are shared until then: a layer makes new ones when it grows
        cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        cache.batch_select_indices(rows)
        return self._replace(cache=cache, mask=self.mask[rows], logits=self.logits[rows])

    def read(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """What the model says behind each of the next tokens [rows, tokens, vocabulary]; these are in the cache afterwards.

        Args:
            tokens: [rows, tokens], int64.
            mask: of the tokens and all before them [rows, columns + tokens].
        """
        logits: torch.Tensor = self.model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=_positions(mask)[:, -tokens.shape[1] :],
            past_key_values=self.cache,
            use_cache=True,
        ).logits
        return logits

    @property
    def token_bytes(self) -> float:
        """What the cache holds for each column of a row."""
        rows, columns = self.mask.shape
        kept: float = sum(layer.keys.nbytes + layer.values.nbytes for layer in self.cache.layers) / (rows * columns)
        return kept


def reads_once(model: PreTrainedModel, device: Device) -> bool:
    """Whether what stands behind a prompt can be read without the prompt, with the numbers of the whole row, in any batch.

    It is tried: some architectures keep keys and values alone and count positions from the left end of a padded row.
    """
    try:
        return _gap(model, device) < (_ROUNDING if device.autocast_dtype is None else _COARSE_ROUNDING)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError):  # no memory: none for anything else then
        return False


def _gap(model: PreTrainedModel, device: Device) -> float:
    """By how many nats two rows read in parts and padded differ from the same rows read whole; infinite for other kinds of caches."""
    prompts, answer = [[5, 6, 7, 8, 9, 10, 11], [6, 5]], [7, 5, 6]
    rows = [torch.tensor([[*prompt, *answer]], device=device.name) for prompt in prompts]
    with torch.inference_mode(), device.precision():
        whole = [model(input_ids=row, use_cache=False).logits[0, -len(answer) - 1 : -1] for row in rows]
        opening = open_prompts(model, prompts, device)
        if type(opening.cache) is not DynamicCache or not {type(layer) for layer in opening.cache.layers} <= _KINDS:
            return math.inf
        apart = read_answers(opening, [answer] * len(prompts))
    gaps = [log_softmax(a.float(), -1) - log_softmax(b.float(), -1) for a, b in zip(apart, whole, strict=True)]
    return max(float(gap.abs().max()) for gap in gaps)


def open_prompts(model: PreTrainedModel, prompts: Sequence[Sequence[int]], device: Device) -> Reading:
    """The prompts, read in one forward pass."""
    longest = max(map(len, prompts))
    tokens = torch.zeros(len(prompts), longest, dtype=torch.int64)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    tokens, mask = tokens.to(device.name), mask.to(device.name)
    out = model(input_ids=tokens, attention_mask=mask, position_ids=_positions(mask), use_cache=True, logits_to_keep=1)
    return Reading(model, out.past_key_values, mask, out.logits[:, -1])


def read_prompts(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], device: Device, *, max_tokens: int
) -> Iterator[tuple[list[int], Reading]]:
    """All prompts, the longest first, in batches of at most so many tokens: their positions, and how they were read."""
    for positions in plan_batches([len(prompt) for prompt in prompts], max_tokens=max_tokens):
        with torch.inference_mode(), device.precision():
            reading = open_prompts(model, [prompts[i] for i in positions], device)
        yield positions, reading


def join(readings: Sequence[Reading]) -> Reading:
    """The rows of several readings of one model, in their order, as if they had been read together."""
    widest = max(reading.mask.shape[1] for reading in readings)
    cache = copy.copy(readings[0].cache)
    cache.layers = [
        _joined([reading.cache.layers[number] for reading in readings], widest) for number in range(len(cache))
    ]
    mask = torch.cat([pad(reading.mask, (widest - reading.mask.shape[1], 0)) for reading in readings])
    return readings[0]._replace(cache=cache, mask=mask, logits=torch.cat([reading.logits for reading in readings]))


def _joined(layers: Sequence[DynamicLayer], columns: int) -> DynamicLayer:
    joined = copy.copy(layers[0])
    kept = max(layer.keys.shape[-2] for layer in layers)  # fewer than the columns where it is a window
    joined.keys, joined.values = (
        torch.cat([pad(one, (0, 0, kept - one.shape[-2], 0)) for one in of_each])
        for of_each in ([layer.keys for layer in layers], [layer.values for layer in layers])
    )
    if isinstance(joined, DynamicSlidingWindowLayer):
        joined.cumulative_length = columns
    return joined


def read_answers(reading: Reading, answers: Sequence[Sequence[int]]) -> torch.Tensor:
    """What the model says before each token of each row's answer [rows, longest answer, vocabulary]; the reading is used up.

    What stands behind the end of a shorter answer means nothing.
    """
    longest = max(map(len, answers))
    # the last token is nobody's context
    tokens = reading.mask.new_zeros(len(answers), longest - 1)
    mask = torch.zeros_like(tokens)
    for row, answer in enumerate(answers):
        tokens[row, : len(answer) - 1] = tokens.new_tensor(answer[:-1])
        mask[row, : len(answer) - 1] = 1
    if longest == 1:
        return reading.logits[:, None]
    told = reading.read(tokens, torch.cat([reading.mask, mask], dim=1))
    return torch.cat([reading.logits[:, None], told], dim=1)


def answer_losses(
    reading: Reading, rows: Sequence[int], answers: Sequence[Sequence[int]], *, max_tokens: int
) -> list[RowLoss]:
    """What `measure_rows` finds for each answer behind the row of the reading that stands beside it, up to rounding.

    Args:
        max_tokens: of answers that are read at once, padding included; those of about equal length are.
    """
    found = [RowLoss(0.0, 0)] * len(answers)
    for positions in plan_batches([len(answer) for answer in answers], max_tokens=max_tokens):
        some = [answers[i] for i in positions]
        chosen = torch.tensor([rows[i] for i in positions], device=reading.mask.device)
        logits = read_answers(reading.select(chosen), some).float()
        targets = torch.full(logits.shape[:2], IGNORED, dtype=torch.int64)
        for row, answer in enumerate(some):
            targets[row, : len(answer)] = torch.tensor(answer)
        targets = targets.to(logits.device).flatten()
        losses = cross_entropy(logits.flatten(0, 1), targets, ignore_index=IGNORED, reduction="none")
        sums = losses.view(len(some), -1).double().sum(dim=1).tolist()
        for position, answer, total in zip(positions, some, sums, strict=True):
            found[position] = RowLoss(total / len(answer), len(answer))
    return found


def write(reading: Reading, *, choose: Choose, stop: Sequence[int], room: Sequence[int]) -> list[list[int]]:
    """Tokens behind each row, up to a stop token, which is among them, or as many as its room; the reading is used up.

    Rows that have ended leave the batch.
    """
    stops = torch.tensor(list(stop), device=reading.mask.device)
    rooms = torch.tensor(list(room), device=reading.mask.device)
    rows = torch.arange(len(room), device=reading.mask.device)
    written = [(rows, choose(reading.logits, rows, 0))]
    for step in range(1, max(room)):
        is_open = ~torch.isin(written[-1][1], stops) & (rooms[rows] > step)
        if not is_open.all():
            still = is_open.nonzero().squeeze(1)
            if not len(still):
                break
            reading, rows = reading.select(still), rows[still]
        tokens = written[-1][1][is_open]
        mask = torch.cat([reading.mask, reading.mask.new_ones(len(rows), 1)], dim=1)
        reading = reading._replace(logits=reading.read(tokens[:, None], mask)[:, -1], mask=mask)
        written.append((rows, choose(reading.logits, rows, step)))
    answers: list[list[int]] = [[] for _ in room]
    for some, tokens in written:
        for row, token in zip(some.tolist(), tokens.tolist(), strict=True):
            answers[row].append(token)
    return answers


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """Where each token stands in its own row; padding stands nowhere, and is given the first place."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)
