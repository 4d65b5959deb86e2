"""Weights that are rounded once measure as those that autocast rounds each time, to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from gradients.ml.adapters import LoraShape, add_adapter
from gradients.ml.base_model import LoadedBase, load_base
from gradients.ml.batching import pad
from gradients.ml.device import Device
from gradients.ml.losses import batch_losses, measure_rows
from gradients.ml.precision import load_to_measure, load_to_train, round_products
from gradients.ml.submission import applied
from gradients.ml.text import Example
from gradients.testing.tiny_models import write_tiny_llama

HALF = Device("cpu", torch.bfloat16)
ROWS = [Example(list(range(3, 3 + length)), (range(2, length),)) for length in (9, 17, 30)]
RANK = 4


@pytest.fixture
def base_folder(tmp_path: Path) -> Path:
    from transformers import AutoModelForCausalLM

    folder = write_tiny_llama(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(base_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    model = load_base(base_folder, HALF).model
    drawn = np.random.default_rng(3)
    factors = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and name != "lm_head":
            outputs, inputs = layer.weight.shape
            for side, shape in (("A", (RANK, inputs)), ("B", (outputs, RANK))):
                values = (drawn.standard_normal(shape) * 0.1).astype(np.float32)
                factors[f"base_model.model.{name}.lora_{side}.weight"] = values
    save_file(factors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "target_modules": ["q_proj"]})
    )
    return folder


def losses(base: LoadedBase, folder: Path | None) -> list[float]:
    with applied(base.model, folder):
        return [row.mean for row in measure_rows(base.model, ROWS, device=HALF, max_tokens=64)]


def test_a_submission_measures_to_the_bit_as_with_weights_that_are_rounded_each_time(
    base_folder: Path, adapter: Path
) -> None:
    often, once = load_base(base_folder, HALF), load_to_measure(base_folder, HALF)
    kinds = {layer.weight.dtype for layer in once.model.modules() if isinstance(layer, nn.Linear)}
    assert torch.bfloat16 in kinds
    assert {layer.weight.dtype for layer in often.model.modules() if isinstance(layer, nn.Linear)} == {torch.float32}
    for folder in (None, adapter, None):
        assert losses(often, folder) == losses(once, folder)
    assert losses(once, adapter) != losses(once, None)


def test_a_lora_gets_the_same_gradients_on_layers_that_were_rounded_once(base_folder: Path) -> None:
    def gradients(base: LoadedBase) -> list[torch.Tensor]:
        torch.manual_seed(1)
        adapted = add_adapter(base.model, LoraShape(rank=RANK, alpha=8.0)).train()
        with torch.no_grad():
            for name, weight in adapted.named_parameters():
                if "lora_B" in name:
                    weight.copy_(torch.randn_like(weight) * 0.1)
        with HALF.precision():
            loss = batch_losses(adapted, pad(ROWS, HALF)).sums.sum()
        loss.backward()
        return [weight.grad for weight in adapted.parameters() if weight.grad is not None]

    often = load_to_train(base_folder, HALF, frozen=False, in_4bit=False)
    often.model.requires_grad_(False)
    once = load_to_train(base_folder, HALF, frozen=True, in_4bit=False)
    kept, less = (sum(weight.nbytes for weight in base.model.parameters()) for base in (often, once))
    assert less < 0.7 * kept
    found = gradients(once)
    assert found[0].dtype is torch.float32
    assert all(torch.equal(mine, his) for mine, his in zip(found, gradients(often), strict=True))


def test_what_is_looked_up_stays_and_so_does_a_head_that_is_the_embedding() -> None:
    embedding, tied, apart = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False), nn.Linear(4, 4)
    tied.weight = embedding.weight
    round_products(nn.Sequential(embedding, tied, apart), torch.bfloat16)
    assert embedding.weight.dtype is tied.weight.dtype is torch.float32
    assert apart.weight.dtype is torch.bfloat16


def test_a_base_that_is_stored_in_more_bits_keeps_them(tmp_path: Path) -> None:
    base = load_to_measure(write_tiny_llama(tmp_path / "base"), HALF)
    assert {parameter.dtype for parameter in base.model.parameters()} == {torch.float32}
