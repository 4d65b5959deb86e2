"""Answers that a model draws to prompts: many at once, with the random numbers of each one fixed beforehand.

They are a table of uniforms in 0..1, one per token, that depends on a seed and the prompt alone; so two models that think alike answer
alike, and their scores can be compared pair by pair. The same rows on the same machine give the same answers bit by bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from gradients.ml.batching import plan_batches
from gradients.ml.device import Device

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """How answers are drawn."""

    samples: int  # answers to each prompt
    max_new_tokens: int
    temperature: float
    stop_tokens: tuple[int, ...]
    batch_tokens: int  # of what is written at once, padding and prompts included


class Rollout(NamedTuple):
    """One answer."""

    prompt: list[int]
    completion: list[int]  # with the stop token, if it came to one
    finished: bool


class _Padded(NamedTuple):
    tokens: torch.Tensor  # [rows, longest], int64, prompts at the right end
    mask: torch.Tensor  # the same, 0 where nothing stands


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
    widths = [(len(prompt) + settings.max_new_tokens) * settings.samples for prompt in prompts]
    done = 0
    for positions in plan_batches(widths, max_tokens=settings.batch_tokens):
        together = [prompts[i] for i in positions]
        uniforms = _uniforms(together, settings, seed).to(device.name)
        # the longest comes first; a prompt whose answers are more than fit is alone, and they are written in parts
        at_once = max(1, settings.batch_tokens // (len(together[0]) + settings.max_new_tokens))
        with torch.inference_mode(), device.precision():
            written = [
                row
                for part in uniforms.split(at_once)
                for row in _write(model, together, settings=settings, uniforms=part).tolist()
            ]
        for number, row in enumerate(written):
            position = positions[number // settings.samples]
            end = next((i for i, token in enumerate(row, start=1) if token in settings.stop_tokens), None)
            answered[position].append(Rollout(prompts[position], row[:end], finished=end is not None))
        done += len(positions)
        progress(done)
    return answered


def _write(
    model: PreTrainedModel, prompts: Sequence[list[int]], *, settings: RolloutSettings, uniforms: torch.Tensor
) -> torch.Tensor:
    """Tokens of one answer for each row of uniforms [answers, longest], prompt by prompt; what stands behind a stop token means nothing."""
    tokens, mask = _pad_left(prompts, uniforms.device)
    answers = len(uniforms) // len(prompts)  # of each prompt
    out = model(input_ids=tokens, attention_mask=mask, position_ids=_positions(mask), use_cache=True, logits_to_keep=1)
    cache: DynamicCache = out.past_key_values
    cache.batch_repeat_interleave(answers)  # a prompt is read once, however many answers it gets
    mask = mask.repeat_interleave(answers, dim=0)
    logits = out.logits.repeat_interleave(answers, dim=0)
    stops = torch.tensor(settings.stop_tokens, device=uniforms.device)
    drawn = [_draw(logits[:, -1], uniforms[:, 0], settings.temperature)]
    is_open = ~torch.isin(drawn[0], stops)
    for step in range(1, settings.max_new_tokens):
        if not is_open.any():
            break
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        logits = model(
            input_ids=drawn[-1][:, None],
            attention_mask=mask,
            position_ids=_positions(mask)[:, -1:],
            past_key_values=cache,
            use_cache=True,
        ).logits
        drawn.append(_draw(logits[:, -1], uniforms[:, step], settings.temperature))
        is_open &= ~torch.isin(drawn[-1], stops)
    return torch.stack(drawn, dim=1)


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


def _pad_left(prompts: Sequence[list[int]], device: torch.device) -> _Padded:
    """On the left, so that all answers begin in the same column."""
    longest = max(map(len, prompts))
    tokens = torch.zeros(len(prompts), longest, dtype=torch.int64)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    return _Padded(tokens.to(device), mask.to(device))


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """Where each token stands in its own row; padding stands nowhere, and is given the first place."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)
