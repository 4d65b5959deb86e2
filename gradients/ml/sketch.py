"""Few numbers that stand for many: random projections, so that the cosine of two sketches is about the cosine of what they are of.

Covers: an update of a model's weights by what it does, not by how it is written. The sketch is linear in the merged difference, so names,
shards, precision, the split of a product into factors and its scale change nothing. Does not cover: updates that compute the same with
other weights, such as a permutation of neurons in a full model. Whoever knows the key can hide a copy, or forge somebody's sketch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from gradients.ml.batching import IGNORED, pad
from gradients.ml.device import Device
from gradients.ml.submission import LowRank, Replaced
from gradients.ml.text import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_DECIMALS = 6  # far below the error of projecting, and half the bytes


def sketch(tensors: Iterable[tuple[str, torch.Tensor | LowRank]], *, key: str, numbers: int) -> tuple[float, ...]:
    """`numbers` projections of the named tensors together, scaled to length 1; none where all is zero or not finite.

    The k-th is the sum over tensors of u_k^T T v_k, with signs ±1 in u_k and v_k that follow from the key, the name and the shape: one
    pass of `numbers` rows through each matrix, or through its two factors. The cosine of two sketches is off by about
    (1 - cosine^2) / sqrt(numbers).

    Args:
        numbers: a multiple of 8.
    """
    total = torch.zeros(numbers, dtype=torch.float64)
    for name, tensor in tensors:
        matrix = tensor if isinstance(tensor, LowRank) else _as_matrix(tensor)
        about = f"{key}|{name}|{tuple(tensor.shape)}"
        rows, columns = (
            _signs(f"{about}|{side}", length, numbers)
            for side, length in zip(("rows", "columns"), matrix.shape, strict=True)
        )
        total += _projected(matrix, rows, columns).cpu()
    length = float(total.norm())
    return tuple(round(each, _DECIMALS) for each in (total / length).tolist()) if 0 < length < math.inf else ()


def _projected(matrix: torch.Tensor | LowRank, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """u_k^T T v_k for each k, in float64: sums of a whole matrix, or products of its factors, in which large terms may cancel."""
    if isinstance(matrix, LowRank):
        left, right = (factor.double() for factor in matrix)
        return ((left.T @ rows.to(left)) * (right @ columns.to(right))).sum(dim=0)
    rows, columns = rows.to(matrix.device), columns.to(matrix.device)
    return (rows * (matrix @ columns)).sum(dim=0, dtype=torch.float64)


def inner_states(model: PreTrainedModel, rows: Sequence[list[int]], *, device: Device) -> torch.Tensor:
    """What each layer of a language model makes of each token [layers · tokens, hidden], each layer's scaled to mean square 1.

    In one forward pass, without the head. Other weights that compute the same leave these as they are, since they lie in the base's own
    coordinates; and two models that were trained apart are told by them far better than by what they finally say.
    """
    batch = pad([Example(row, (range(len(row)),)) for row in rows], device)
    with torch.inference_mode(), device.precision():
        states = model.base_model(input_ids=batch.tokens, use_cache=False, output_hidden_states=True).hidden_states
    there = batch.labels != IGNORED
    return torch.cat([layer / layer.square().mean().sqrt() for layer in (state[there].float() for state in states)])


def differences(model: nn.Module, replaced: Mapping[str, Replaced]) -> Iterator[tuple[str, torch.Tensor | LowRank]]:
    """By how much the weights of `model` differ from those that they took the place of, one in memory at a time.

    Those of single tokens, embeddings and the head, are left out: whoever shakes tokens that never come changes nothing else.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Embedding)]
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    of_tokens = {id(layer.weight) for layer in (*layers, head) if layer is not None}
    for name, weight in model.named_parameters():
        if name in replaced and id(weight) not in of_tokens:
            own, change = replaced[name]
            yield name, change or weight.detach().float() - own.to(weight.device, torch.float32)


def _as_matrix(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as rows and columns, split between its dimensions where both are shortest; a vector is one column."""
    shape = tensor.shape
    splits = [(math.prod(shape[:at]), math.prod(shape[at:])) for at in range(1, max(len(shape), 2))]
    return tensor.float().reshape(min(splits, key=sum))


def _signs(about: str, length: int, numbers: int) -> torch.Tensor:
    """[length, numbers] of +1 and -1: the bits of SHAKE-256, the same with every version of every library."""
    digest = hashlib.shake_256(about.encode()).digest(length * numbers // 8)
    bits = np.unpackbits(np.frombuffer(digest, np.uint8)).reshape(length, numbers)
    return torch.from_numpy(bits).float().mul_(2).sub_(1)
