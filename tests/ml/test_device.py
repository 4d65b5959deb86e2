from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gradients.errors import ModelUnknown
from gradients.ml.base_model import LoadedBase, load_base
from gradients.ml.device import Device, choose_device, weights_dtype
from gradients.ml.losses import measure_rows
from gradients.ml.text import Example

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


@without_gpu
def test_a_machine_without_gpu_computes_in_float32() -> None:
    device = choose_device()
    assert device == Device("cpu", autocast_dtype=None)
    with device.precision():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == torch.float32


def test_bfloat16_is_used_where_a_device_asks_for_it() -> None:
    with Device("cpu", torch.bfloat16).precision():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_weights_on_a_cpu_are_float32_however_large() -> None:
    assert weights_dtype(Device("cpu"), stored_bytes=10**12) == torch.float32


def test_a_record_says_where_it_was_measured() -> None:
    assert Device("cpu").describe() == {"device": "cpu", "precision": "float32", "threads": 1}


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_without_a_whole_model_is_no_base(base_folder: Path, tmp_path: Path, missing: str) -> None:
    for file in base_folder.iterdir():
        if file.name != missing:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ModelUnknown):
        load_base(tmp_path, Device("cpu"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_measures_what_a_cpu_measures(base: LoadedBase, base_folder: Path, examples: list[Example]) -> None:
    device = choose_device()
    assert device.name == "cuda"
    on_gpu = load_base(base_folder, device)
    ours = [row.mean for row in measure_rows(on_gpu.model, examples, device=device, max_tokens=2048)]
    theirs = [row.mean for row in measure_rows(base.model, examples, device=Device("cpu"), max_tokens=2048)]
    assert ours == pytest.approx(theirs, rel=0.01)
