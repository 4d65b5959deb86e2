"""Numbers in fewer bits than torch has for them, by bitsandbytes: a frozen base in 4, an optimiser's moments in 8.

A base in 4 bits is QLoRA's (arXiv 2305.14314): NormalFloat4 with scales that are quantised too, 0.52 bytes a weight of a matrix; embeddings
and head stay as they are stored. What is trained on it is a plain LoRA, which validators measure on the base as it is, so a small error
is never trained against. Does not cover: experts whose matrices an architecture keeps as one tensor; they stay as they are.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from gradients.errors import SetupError
from gradients.extras import how_to_install
from gradients.ml.device import Device

if TYPE_CHECKING:
    from torch import nn
    from transformers import BitsAndBytesConfig

_PACKAGE = "bitsandbytes"


def four_bit_config(device: Device) -> BitsAndBytesConfig:
    """How transformers is told to load a base in 4 bits. Raises SetupError without bitsandbytes."""
    _check_installed()
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=device.autocast_dtype or torch.float32,
    )


def keep_differentiable(model: nn.Module) -> None:
    """Have a base in 4 bits lie as it is, on a CPU too.

    On one with bfloat16 instructions bitsandbytes 0.50 packs matrices anew in the first forward pass in evaluation mode, and no gradient
    goes through them from then on, without an error.
    """
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def adamw_8bit(
    groups: list[dict[str, Any]],  # as torch's optimisers take them
    *,
    betas: tuple[float, float],
    on_gpu: bool,
) -> torch.optim.Optimizer:
    """AdamW with moments of 8 bits (arXiv 2110.02861); on a GPU they move to the machine's memory when it runs out.

    Weights with fewer than 4,096 numbers keep moments of 32 bits. Raises SetupError without bitsandbytes.
    """
    _check_installed()
    from bitsandbytes.optim.adamw import AdamW8bit, PagedAdamW8bit

    made = PagedAdamW8bit if on_gpu else AdamW8bit
    optimiser: torch.optim.Optimizer = made(groups, lr=0.0, betas=betas)
    return optimiser


@contextmanager
def counted_as_absent(packages: Iterable[str] = (_PACKAGE,)) -> Iterator[None]:
    """The context in which packages that were not imported yet count as not installed.

    For imports of libraries that import bitsandbytes when they find it, which takes four seconds: a LoRA does without.
    """
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # None is how Python is told so
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _check_installed() -> None:
    if importlib.util.find_spec(_PACKAGE) is None:
        raise SetupError(
            f"{_PACKAGE} is not installed, which 4-bit bases and 8-bit optimisers need",
            fix=f'{how_to_install("gpu")}, or train without load_in_4bit and with optimiser = "adamw"',
        )
