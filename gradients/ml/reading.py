"""Prompts that a model reads once, and what it says behind them: to answers that are known, or to what it writes itself.

Prompts stand at the right end of their rows, so that all answers begin in the same column. Rows may be repeated, taken apart and left out
between two steps. Covers architectures that keep keys and values and nothing else, of all columns or of a window (`reads_once`); states
that run through a row know nothing of padding, and cannot be taken apart.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy, log_softmax, pad
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from gradients.ml.batching import plan_batches, plan_tightly
from gradients.ml.device import Device
from gradients.ml.head import counted_logits
from gradients.ml.losses import RowLoss

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ROUNDING, _COARSE_ROUNDING = 2e-3, 0.2  # nats by which two ways of reading differ in float32, and in 16 bits

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

    def context(self, mask: torch.Tensor, tokens: int) -> dict[str, Any]:  # Any: arguments of a model
        """What a model is told of the last `tokens` columns of a mask [rows, columns] that begins with this reading's; uses it up."""
        positions = _positions(mask)[:, -tokens:]
        return {
            "attention_mask": mask,
            "position_ids": positions,
            "past_key_values": self.cache,
            "use_cache": True,
        }

    @property
    def token_bytes(self) -> float:
        """What the cache holds for each column of a row."""
        rows, columns = self.mask.shape
        kept: float = sum(layer.keys.nbytes + layer.values.nbytes for layer in self.cache.layers) / (rows * columns)
        return kept


class Told(NamedTuple):
    """What a model says before each token of answers, row by row."""

    logits: torch.Tensor  # [tokens of all answers, vocabulary]
    tokens: torch.Tensor  # the tokens themselves [tokens]
    rows: torch.Tensor  # whose answer it is in [tokens]
    steps: torch.Tensor  # at which place of it [tokens], from 0

    def sums(self, values: torch.Tensor) -> list[float]:
        """Sums of a value for each token [tokens] over each row's answer, in float64 and always in the same order."""
        by_place = values.new_zeros(int(self.rows[-1]) + 1, int(self.steps.max()) + 1, dtype=torch.float64)
        by_place[self.rows, self.steps] = values.double()
        return [float(total) for total in by_place.sum(dim=1)]


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
        apart = read_answers(opening, [answer] * len(prompts)).logits
    gap = log_softmax(apart.float(), dim=-1) - log_softmax(torch.cat(whole).float(), dim=-1)
    return float(gap.abs().max())


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


def read_answers(reading: Reading, answers: Sequence[Sequence[int]]) -> Told:
    """What the model says before each token of each row's answer, and at no other place; the reading is used up."""
    longest = max(map(len, answers))
    tokens = reading.mask.new_zeros(len(answers), longest)
    for row, answer in enumerate(answers):
        tokens[row, : len(answer)] = tokens.new_tensor(answer)
    lengths = reading.mask.new_tensor([len(answer) for answer in answers])
    rows, steps = (torch.arange(longest, device=lengths.device) < lengths[:, None]).nonzero(as_tuple=True)
    if longest == 1:
        return Told(reading.logits, tokens[rows, steps], rows, steps)
    # the last token is nobody's context
    stands = torch.arange(longest - 1, device=lengths.device) < lengths[:, None] - 1
    mask = torch.cat([reading.mask, stands.to(reading.mask.dtype)], dim=1)
    rest = counted_logits(reading.model, tokens[:, :-1], stands, **reading.context(mask, longest - 1))
    logits = rest.new_empty(len(rows), rest.shape[1])
    logits[steps == 0], logits[steps > 0] = reading.logits.to(rest.dtype), rest
    return Told(logits, tokens[rows, steps], rows, steps)


def answer_losses(
    reading: Reading, rows: Sequence[int], answers: Sequence[Sequence[int]], *, max_tokens: int
) -> list[RowLoss]:
    """What `measure_rows` finds for each answer behind the row of the reading that stands beside it, up to rounding.

    Args:
        max_tokens: of answers that are read at once, padding included; those of about equal length are.
    """
    found = [RowLoss(0.0, 0)] * len(answers)
    for positions in plan_tightly([len(answer) for answer in answers], max_tokens=max_tokens):
        some = [answers[i] for i in positions]
        told = read_answers(reading.select(reading.mask.new_tensor([rows[i] for i in positions])), some)
        losses = cross_entropy(told.logits.float(), told.tokens, reduction="none")
        for position, answer, total in zip(positions, some, told.sums(losses), strict=True):
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
        logits = reading.model(input_ids=tokens[:, None], **reading.context(mask, 1)).logits[:, -1]
        reading = reading._replace(logits=logits, mask=mask)
        written.append((rows, choose(reading.logits, rows, step)))
    answers: list[list[int]] = [[] for _ in room]
    for some, tokens in written:
        for row, token in zip(some.tolist(), tokens.tolist(), strict=True):
            answers[row].append(token)
    return answers


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """Where each token stands in its own row; padding stands nowhere, and is given the first place."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)
