"""Logits of the positions that count, and of no other: the head is a third of a small model's work, and memory goes by its vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def counted_logits(
    model: PreTrainedModel,
    tokens: torch.Tensor,
    counts: torch.Tensor,
    **behind: Any,  # noqa: ANN401 (whatever a model takes)
) -> torch.Tensor:
    """Logits [counted, vocabulary] behind the positions that are set in `counts`, row by row; differentiable.

    The head is given these positions instead of all; whatever a model does to logits behind it is done to each by itself. Where a model
    hands its head something else than [rows, positions, width], all logits are taken and the counted ones picked.

    use_cache=False is not about speed: with a cache, transformers (5.23, SDPA) builds masks for it and lets packed rows see one another.

    Args:
        tokens: [rows, positions], padded on the right.
        counts: [rows, positions], bool.
        behind: where the tokens stand behind others: a cache, with mask and positions.
    """
    context = behind or {"use_cache": False}
    rows, columns = counts.nonzero(as_tuple=True)
    picked = []

    def pick(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:  # Any: a layer's arguments
        hidden = given[0] if given else None
        if not isinstance(hidden, torch.Tensor) or hidden.shape[:2] != tokens.shape:
            return None
        picked.append(True)
        return (hidden[rows, columns].unsqueeze(0), *given[1:])

    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(pick) if isinstance(head, nn.Module) else None
    try:
        logits: torch.Tensor = model(input_ids=tokens, **context).logits
    finally:
        if hook is not None:
            hook.remove()
    return logits.squeeze(0) if picked else logits[rows, columns]
