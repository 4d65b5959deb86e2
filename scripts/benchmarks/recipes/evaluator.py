"""The judge: a plain loop over transformers and peft. Nothing of gradients is in it, so that it cannot share a fault with what it judges.

Of prompts with an answer: cross-entropy of the answer's tokens and its end of turn, the mean of each row. Of preferences: the DPO loss of
each row against the base (arXiv 2305.18290, equation 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy, logsigmoid

BETA = 0.1  # TRL's and the task type's own
ROWS_AT_ONCE = 16
IGNORED = -100

Model = Any  # transformers' and peft's models carry no types


class Encoded(NamedTuple):
    """A row as tokens; what counts begins at `start`."""

    tokens: list[int]
    start: int


def load(base: Path, repo: Path | None = None) -> Model:
    """The base, or what a run has handed in: a whole model, or an adapter on the base."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    whole = base if repo is None or not (repo / "config.json").is_file() else repo
    model: Model = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float32)
    if repo is not None and whole is base:
        model = PeftModel.from_pretrained(model, repo)
    return model.eval()


def encode(tokenizer: Any, prompt: str, answer: str) -> Encoded:  # noqa: ANN401 (transformers' tokenizers carry no types)
    """A prompt with its answer in the base's chat template; the answer's end of turn counts, what follows it does not."""
    asked = [{"role": "user", "content": prompt}]
    opening: str = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    said = [*asked, {"role": "assistant", "content": answer}]
    whole: str = tokenizer.apply_chat_template(said, tokenize=False)
    if not whole.startswith(opening):
        raise ValueError("The chat template does not write an answer behind its own opening")
    before: list[int] = tokenizer(opening, add_special_tokens=False).input_ids
    answered: list[int] = tokenizer(whole[len(opening) :].removesuffix("\n"), add_special_tokens=False).input_ids
    return Encoded(before + answered, len(before))


def completion_losses(model: Model, rows: Sequence[Encoded]) -> list[float]:
    """Each row's mean over its tokens that count, in nats."""
    return [total / (len(row.tokens) - row.start) for total, row in zip(_summed_losses(model, rows), rows, strict=True)]


def preference_losses(model: Model, base: Model, chosen: Sequence[Encoded], rejected: Sequence[Encoded]) -> list[float]:
    """Each row's DPO loss, in nats; ln 2 for the base itself."""
    better, worse = (
        torch.tensor(_summed_losses(base, rows)) - torch.tensor(_summed_losses(model, rows))
        for rows in (chosen, rejected)
    )
    losses: list[float] = (-logsigmoid(BETA * (better - worse))).tolist()
    return losses


def _summed_losses(model: Model, rows: Sequence[Encoded]) -> list[float]:
    """In the rows' order; rows of like length are read together."""
    order = sorted(range(len(rows)), key=lambda place: len(rows[place].tokens))
    found = [0.0] * len(rows)
    for first in range(0, len(order), ROWS_AT_ONCE):
        places = order[first : first + ROWS_AT_ONCE]
        longest = max(len(rows[place].tokens) for place in places)
        tokens = torch.zeros(len(places), longest, dtype=torch.int64)
        mask, labels = torch.zeros_like(tokens), torch.full_like(tokens, IGNORED)
        for at, place in enumerate(places):
            ids, start = torch.tensor(rows[place].tokens), rows[place].start
            tokens[at, : len(ids)], mask[at, : len(ids)] = ids, 1
            labels[at, start : len(ids)] = ids[start:]
        with torch.inference_mode():
            logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits[:, :-1].float()
        each = cross_entropy(logits.transpose(1, 2), labels[:, 1:], ignore_index=IGNORED, reduction="none")
        for place, total in zip(places, each.sum(dim=1).tolist(), strict=True):
            found[place] = total
    return found
