"""Answers that a model draws to prompts: many at once, with the random numbers of each one fixed beforehand.

They are a table of uniforms in 0..1, one per token, that depends on a seed and the prompt alone; so two models that think alike answer
alike, and their scores can be compared pair by pair. The same rows on the same machine give the same answers bit by bit.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from gradients.ml.batching import plan_batches
from gradients.ml.device import Device
from gradients.ml.reading import Reading, open_prompts, write

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_WRITTEN_FACTOR = 4  # more tokens are written at once than are read; measured on a core
_CACHE_BYTES = 2 * 1024**3  # that their keys and values may then take


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """How answers are drawn."""

    samples: int  # answers to each prompt
    max_new_tokens: int
    temperature: float
    stop_tokens: tuple[int, ...]
    batch_tokens: int  # of what is read at once, padding included
    padded: bool = True  # whether prompts of different lengths may share a batch


class Rollout(NamedTuple):
    """One answer."""

    prompt: list[int]
    completion: list[int]  # with the stop token, if it came to one
    finished: bool


class Drawn(NamedTuple):
    """A batch of answers."""

    rows: list[int]  # each answer's prompt, by its position
    rollouts: list[Rollout]
    log_probabilities: torch.Tensor | None  # [answers, longest, vocabulary], before each token; None: not kept


def roll_out(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    settings: RolloutSettings,
    *,
    seed: int,
    device: Device,
    progress: Callable[[int], None] = lambda _: None,
) -> list[list[Rollout]]:
    """Each prompt's answers, in the prompts' order; `progress` is told how many prompts are done."""
    answered: list[list[Rollout]] = [[] for _ in prompts]
    for drawn in draw_batches(model, prompts, settings, seed=seed, device=device, progress=progress):
        for row, rollout in zip(drawn.rows, drawn.rollouts, strict=True):
            answered[row].append(rollout)
    return answered


def draw_batches(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    settings: RolloutSettings,
    *,
    seed: int,
    device: Device,
    progress: Callable[[int], None] = lambda _: None,
    most_kept: int = 0,
) -> Iterator[Drawn]:
    """The answers to all prompts, those to the longest first; those to one prompt follow one another.

    Args:
        most_kept: how many log-probabilities may be kept with a batch; where there are more, none are.
    """
    room = settings.max_new_tokens
    # a prompt is read once, and written behind as often as there are samples
    written = [(len(prompt) + room) * settings.samples / _WRITTEN_FACTOR for prompt in prompts]
    widths = [max(len(prompt), math.ceil(width)) for prompt, width in zip(prompts, written, strict=True)]
    most = settings.batch_tokens if settings.padded else 0
    done = 0
    for positions in plan_batches(widths, max_tokens=most):
        together = [prompts[i] for i in positions]
        rows = [i for i in positions for _ in range(settings.samples)]
        uniforms = _uniforms(together, settings, seed).to(device.name)
        with torch.inference_mode(), device.precision():
            opening = open_prompts(model, together, device)
            of_prompts = torch.arange(len(together), device=device.name).repeat_interleave(settings.samples)
            parts = of_prompts.split(_rows_at_once(opening, settings))
        start = 0
        for part in parts:
            some, numbers = rows[start : start + len(part)], uniforms[start : start + len(part)]
            with torch.inference_mode(), device.precision():
                answers, kept = _write(opening.select(part), settings, uniforms=numbers, most_kept=most_kept)
            rollouts = [
                Rollout(prompts[i], answer, finished=answer[-1] in settings.stop_tokens)
                for i, answer in zip(some, answers, strict=True)
            ]
            yield Drawn(some, rollouts, kept)
            start += len(part)
        done += len(positions)
        progress(done)


def _rows_at_once(opening: Reading, settings: RolloutSettings) -> int:
    """How many answers are written at once: a step takes one token of each, so the batches of reading would be small for it."""
    fit = min(_WRITTEN_FACTOR * settings.batch_tokens, _CACHE_BYTES / opening.token_bytes)
    columns = opening.mask.shape[1] + settings.max_new_tokens
    return max(1, int(max(settings.batch_tokens, fit) / columns))


def _write(
    reading: Reading, settings: RolloutSettings, *, uniforms: torch.Tensor, most_kept: int
) -> tuple[list[list[int]], torch.Tensor | None]:
    """Answers and what was likely before each of their tokens, where that may be kept."""
    answers, vocabulary = reading.logits.shape
    size = (answers, settings.max_new_tokens, vocabulary)
    kept = reading.logits.new_empty(size, dtype=torch.float32) if math.prod(size) <= most_kept else None

    def choose(logits: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
        if kept is not None:
            kept[rows, step] = torch.log_softmax(logits.float() / settings.temperature, dim=-1)
        return _draw(logits, uniforms[rows, step], settings.temperature)

    room = [settings.max_new_tokens] * answers
    return write(reading, choose=choose, stop=settings.stop_tokens, room=room), kept


def _draw(logits: torch.Tensor, uniforms: torch.Tensor, temperature: float) -> torch.Tensor:
    """One token per row [rows]: the first at which the sum of the probabilities passes the row's uniforms.

    float64, because a vocabulary's many small probabilities add up to less than they should in float32.
    """
    sums = torch.softmax(logits.double() / temperature, dim=-1).cumsum(dim=-1)
    reached = torch.searchsorted(sums, (uniforms * sums[:, -1])[:, None], right=True).squeeze(1)
    return reached.clamp(max=logits.shape[-1] - 1)


def _uniforms(prompts: Sequence[list[int]], settings: RolloutSettings, seed: int) -> torch.Tensor:
    """Numbers in 0..1 [prompts * samples, new tokens], drawn on the CPU so that every device has the same."""
    tables = []
    for prompt in prompts:
        digest = hashlib.sha256(f"{seed}:{prompt}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
        tables.append(torch.rand(settings.samples, settings.max_new_tokens, dtype=torch.float64, generator=generator))
    return torch.cat(tables)
