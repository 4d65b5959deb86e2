"""Preferences: two answers to one prompt, one chosen and one rejected, and the loss of direct preference optimisation (DPO) on them.

The loss (arXiv 2305.18290, equation 7) is -log sigmoid(margin), where the margin is beta times by how much more the model prefers the
chosen answer than the reference, our untouched base, does. A preference is a difference of log-probabilities, sums over tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch.nn.functional import softplus

from gradients.ml.batching import pad
from gradients.ml.device import Device, is_out_of_memory
from gradients.ml.losses import batch_losses, measure_rows
from gradients.ml.micro_batches import MicroBatches
from gradients.ml.reading import answer_losses, read_prompts
from gradients.ml.text import ChatFormat, Example, Exchange, answered

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_PROMPTS_FACTOR = (
    4  # more prompts are held than are read at once, so that answers of about equal length are found behind them
)


class PreferenceRow(BaseModel):
    """One row of a DPO task in its normal form."""

    model_config = ConfigDict(frozen=True)

    system: str | None = None
    history: tuple[Exchange, ...] = Field(default=(), description="what was said before the prompt")
    prompt: str
    chosen: str
    rejected: str


class Pair(NamedTuple):
    """A row as tokens: the same prompt before both answers."""

    chosen: Example
    rejected: Example


class PairLogs(NamedTuple):
    """How likely a model finds the two answers: sums of log-probabilities over their tokens, in nats."""

    chosen: float
    rejected: float


class Rewards(NamedTuple):
    """What DPO takes for the rewards of two answers: beta times how much likelier the model finds each than the reference does."""

    chosen: float
    rejected: float

    @property
    def margin(self) -> float:
        """By how much the chosen answer is preferred more than the reference prefers it; 0 for the reference itself."""
        return self.chosen - self.rejected

    @property
    def loss(self) -> float:
        """-log sigmoid(margin); ln 2 for the reference itself."""
        return max(-self.margin, 0.0) + math.log1p(math.exp(-abs(self.margin)))


def rewards(logs: PairLogs, reference: PairLogs, *, beta: float) -> Rewards:
    """The rewards of one row."""
    return Rewards(beta * (logs.chosen - reference.chosen), beta * (logs.rejected - reference.rejected))


def encode_pairs(chat: ChatFormat, rows: Sequence[PreferenceRow], *, max_tokens: int) -> list[Pair]:
    """The rows as tokens, in the base's own chat format.

    A row that is too long loses the beginning of its prompt, the same for both answers, so that only the answers differ; an
    answer is cut only when it alone is too long.
    """
    prompts = [
        chat.prompt_tokens(
            system=row.system, prompt=row.prompt, history=row.history, answers=[row.chosen, row.rejected]
        )
        for row in rows
    ]
    chosen = chat.answer_tokens([row.chosen for row in rows])
    rejected = chat.answer_tokens([row.rejected for row in rows])
    chat.check_known([[*prompt, *one, *other] for prompt, one, other in zip(prompts, chosen, rejected, strict=True)])
    pairs = []
    for prompt, *answers in zip(prompts, chosen, rejected, strict=True):
        better, worse = (answer[: max_tokens - 1] for answer in answers)
        opening = chat.cut(prompt, max_tokens - max(len(better), len(worse)))
        pairs.append(Pair(answered(opening, better), answered(opening, worse)))
    return pairs


def measure_pairs(
    model: PreTrainedModel,
    pairs: Sequence[Pair],
    *,
    device: Device,
    max_tokens: int,
    apart: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> list[PairLogs]:
    """Each pair's log-probabilities, in their order; `progress` is told how many pairs' worth of answers are done.

    Args:
        apart: whether a prompt may be read once for both answers, see `reads_once`; the same numbers up to rounding.
    """
    if apart:
        try:
            return _behind_prompts(model, pairs, device=device, max_tokens=max_tokens, progress=progress)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):  # whole rows are halved until they fit
                raise
        device.forget_unused()
    answers = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    rows = measure_rows(model, answers, device=device, max_tokens=max_tokens, progress=lambda done: progress(done // 2))
    logs = [-row.mean * row.tokens for row in rows]
    return [PairLogs(*each) for each in zip(logs[: len(pairs)], logs[len(pairs) :], strict=True)]


def _behind_prompts(
    model: PreTrainedModel,
    pairs: Sequence[Pair],
    *,
    device: Device,
    max_tokens: int,
    progress: Callable[[int], None],
) -> list[PairLogs]:
    logs = dict[int, PairLogs]()
    prompts = [pair.chosen.tokens[: pair.chosen.spans[0].start] for pair in pairs]
    for positions, reading in read_prompts(model, prompts, device, max_tokens=_PROMPTS_FACTOR * max_tokens):
        answers = [example.tokens[len(prompts[i]) :] for i in positions for example in pairs[i]]
        rows = [row for row in range(len(positions)) for _ in range(2)]
        with torch.inference_mode(), device.precision():
            losses = answer_losses(reading, rows, answers, max_tokens=max_tokens)
        sums = [-loss.mean * loss.tokens for loss in losses]
        logs.update(zip(positions, map(PairLogs, sums[::2], sums[1::2]), strict=True))
        progress(len(logs))
    return [logs[row] for row in range(len(pairs))]


class PreferenceObjective:
    """The DPO loss against a reference whose log-probabilities are known, with cross-entropy of the chosen answer mixed in."""

    def __init__(
        self,
        *,
        train: Sequence[Pair],
        validation: Sequence[Pair],
        reference: Callable[[Sequence[Pair]], list[PairLogs]],
        beta: float,
        sft_weight: float,
        device: Device,
        micro: MicroBatches,
    ) -> None:
        """Args:
        reference: the reference's log-probabilities of pairs; called here and never again.
        beta: of the task; validation is the task's metric.
        sft_weight: what the chosen answer's mean cross-entropy per token counts beside the DPO loss (RPO, arXiv 2404.19733).
        """
        self.lengths = [len(pair.chosen.tokens) + len(pair.rejected.tokens) for pair in train]
        self.widths = [2 * max(len(pair.chosen.tokens), len(pair.rejected.tokens)) for pair in train]  # with padding
        self.train, self.train_reference = train, reference(train)
        self._validation, self._validation_reference = validation, reference(validation)
        self.beta, self.sft_weight = beta, sft_weight
        self.device, self.micro = device, micro

    def backward(self, model: PreTrainedModel, rows: Sequence[int]) -> float:
        def one(positions: Sequence[int]) -> float:
            some = [rows[position] for position in positions]
            pairs = [self.train[row] for row in some]
            batch = pad([pair.chosen for pair in pairs] + [pair.rejected for pair in pairs], self.device)
            with self.device.precision():
                losses = batch_losses(model, batch)  # both answers share a forward pass
            chosen, rejected = losses.sums.chunk(2)
            references = [self.train_reference[row] for row in some]
            known = chosen.new_tensor([reference.chosen - reference.rejected for reference in references])
            preference = softplus(-self.beta * (rejected - chosen - known))  # losses are negative log-probabilities
            by_row = preference + self.sft_weight * chosen / losses.tokens[: len(some)]
            loss = by_row.sum() / len(rows)
            loss.backward()
            return float(loss.item())

        return self.micro.total(model, [self.widths[row] for row in rows], one)

    def validate(self, model: PreTrainedModel) -> float | None:
        if not self._validation:
            return None
        measured = measure_pairs(model, self._validation, device=self.device, max_tokens=self.micro.tokens)
        pairs = zip(measured, self._validation_reference, strict=True)
        losses = [rewards(logs, reference, beta=self.beta).loss for logs, reference in pairs]
        return math.fsum(losses) / len(losses)
