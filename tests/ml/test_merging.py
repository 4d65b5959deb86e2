"""A merged model is the model that was measured."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from gradients.ml.adapters import LoraShape, add_adapter, write_adapter
from gradients.ml.base_model import load_base
from gradients.ml.device import Device
from gradients.ml.merging import merge_adapter
from gradients.ml.submission import applied

TOKENS = torch.randint(3, 300, (4, 64), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def adapter(base_folder: Path, tmp_path: Path) -> Path:
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    adapted = add_adapter(model, LoraShape(rank=4, alpha=6.0, rank_stabilised=True))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    write_adapter(adapted, tmp_path / "adapter", base_name="tiny")
    return tmp_path / "adapter"


def _loss(model: torch.nn.Module) -> float:
    with torch.inference_mode():
        return float(model(TOKENS, labels=TOKENS).loss)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-6), (torch.float16, 1e-4), (torch.bfloat16, 1e-3)],
    ids=["float32", "float16", "bfloat16"],
)
def test_a_merged_models_loss_is_that_of_base_and_adapter_as_they_are_measured(
    base_folder: Path, adapter: Path, tmp_path: Path, dtype: torch.dtype, tolerance: float
) -> None:
    """The float32 sums are equal but for their order; a shorter number rounds each weight once, by 2^-11 and 2^-8 of it at most."""
    folder = tmp_path / "base"
    shutil.copytree(base_folder, folder)
    weights = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    base = load_base(folder, Device("cpu"))
    untouched = _loss(base.model)
    with applied(base.model, adapter):
        measured = _loss(base.model)
    merge_adapter(folder, adapter, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert abs(measured - untouched) > 10 * tolerance
    assert _loss(merged) == pytest.approx(measured, abs=tolerance)
    assert {tensor.dtype for tensor in load_file(tmp_path / "merged" / "model.safetensors").values()} == {dtype}
