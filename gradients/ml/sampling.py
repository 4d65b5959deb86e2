"""Lets a model answer."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gradients.ml.base_model import LoadedBase


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen."""

    max_new_tokens: int
    temperature: float = 0.0  # 0 takes the likeliest token; otherwise torch's global seed decides


def answer(base: LoadedBase, prompt: list[int], *, stop: list[int], sampling: Sampling) -> str:
    """The text that the model writes behind `prompt`, up to a stop token."""
    tokens = torch.tensor([prompt], device=base.device.name)
    drawn = (
        {"do_sample": True, "temperature": sampling.temperature, "top_k": 0}
        if sampling.temperature
        else {"do_sample": False}
    )
    with torch.inference_mode(), base.device.precision():
        written = base.model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=stop,
            pad_token_id=stop[0],
            **drawn,
        )
    text: str = base.tokenizer.decode(written[0, len(prompt) :], skip_special_tokens=True)
    return text.strip()
