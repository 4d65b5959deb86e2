"""Weights in the precision in which they are multiplied, so that they are rounded once and not in each forward pass."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from gradients.ml.base_model import LoadedBase, load_base
from gradients.ml.device import Device


def load_to_measure(folder: Path, device: Device) -> LoadedBase:
    """As `load_base`, for a model that takes submissions and is not trained: half the memory for its products, the same bits."""
    base = load_base(folder, device)
    if device.autocast_dtype is not None and base.stored_dtype == device.autocast_dtype:
        round_products(base.model, device.autocast_dtype)
    return base


def load_to_train(folder: Path, device: Device, *, frozen: bool, in_4bit: bool) -> LoadedBase:
    """As `load_base`; the layers of a frozen base lie in the precision of its products: half the memory or less, the same bits."""
    base = load_base(folder, device, in_4bit=in_4bit)
    if frozen and not in_4bit and device.autocast_dtype is not None:
        round_products(base.model, device.autocast_dtype)
    return base


def round_products(model: nn.Module, dtype: torch.dtype) -> None:
    """Give the weights of linear layers this precision, which autocast would give them in each call.

    Where they were stored in it nothing is lost: a submission's weight, W + scale · B @ A in float32, is rounded when it is put in
    their place instead of when it is used. Layers whose weight is an embedding too stay as they are: what is looked up is not rounded.
    """
    looked_up = {id(layer.weight) for layer in model.modules() if isinstance(layer, nn.Embedding)}
    for layer in model.modules():
        if isinstance(layer, nn.Linear | Conv1D) and id(layer.weight) not in looked_up:
            layer.to(dtype)
