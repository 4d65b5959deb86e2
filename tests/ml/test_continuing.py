"""The base of a continued task is the model that won, as it was measured, with everything else of the old base byte by byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gradients.bases.bases import base_in, files_of
from gradients.errors import SubmissionRejected
from gradients.ml.adapters import LoraShape, add_adapter, write_adapter
from gradients.ml.base_model import load_base
from gradients.ml.continuing import write_image_base, write_language_base
from gradients.ml.device import Device
from gradients.ml.diffusion_lora import add_lora, lora_applied, write_lora
from gradients.ml.pipelines import load_image_base
from gradients.ml.submission import applied
from gradients.testing.tiny_pipelines import write_tiny_pipeline

CPU = Device("cpu")
TOKENS = torch.randint(3, 300, (4, 64), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def base_in_float32(base_folder: Path, tmp_path: Path) -> Path:
    folder = shutil.copytree(base_folder, tmp_path / "base")
    weights = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _adapter(base_folder: Path, folder: Path) -> Path:
    torch.manual_seed(3)
    adapted = add_adapter(load_base(base_folder, CPU).model, LoraShape(rank=4, alpha=6.0))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    write_adapter(adapted, folder, base_name="tiny")
    return folder


def _loss(folder: Path, submission: Path | None = None) -> float:
    base = load_base(folder, CPU)
    with applied(base.model, submission), torch.inference_mode():
        return float(base.model(TOKENS, labels=TOKENS).loss)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def test_an_adapter_in_its_base_has_the_loss_that_was_measured_to_the_bit(
    base_in_float32: Path, tmp_path: Path
) -> None:
    adapter, new = _adapter(base_in_float32, tmp_path / "adapter"), tmp_path / "new"
    new.mkdir()
    write_language_base(base_in_float32, adapter, new)
    assert _loss(new) == _loss(base_in_float32, adapter) != _loss(base_in_float32)


def test_all_but_the_weights_are_the_old_bases_files(base_folder: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    write_language_base(base_folder, _adapter(base_folder, tmp_path / "adapter"), new)
    assert files_of(new).keys() == files_of(base_folder).keys()
    kept = [path for path in files_of(base_folder) if not path.endswith(".safetensors")]
    assert kept == ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
    assert all((new / path).read_bytes() == (base_folder / path).read_bytes() for path in kept)
    assert {each.dtype for each in _weights(new).values()} == {torch.float16}  # as the old base is stored
    old, made = base_in("old", base_folder), base_in("new", new)
    assert (old.parameters, old.family) == (made.parameters, made.family)
    assert old.digest != made.digest


def test_a_full_models_weights_are_the_new_bases(base_folder: Path, tmp_path: Path) -> None:
    full, new = tmp_path / "full", tmp_path / "new"
    full.mkdir()
    new.mkdir()
    weights = {name: tensor + 0.125 for name, tensor in _weights(base_folder).items()}
    save_file(weights, full / "model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(base_folder / "config.json", full / "config.json")
    write_language_base(base_folder, full, new)
    made = _weights(new)
    assert made.keys() == weights.keys()
    assert all(torch.equal(made[name], weights[name]) for name in weights)


def test_what_was_never_measured_becomes_no_base(base_folder: Path, tmp_path: Path) -> None:
    adapter = _adapter(base_folder, tmp_path / "adapter")
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors[next(iter(tensors))][0, 0] = float("nan")
    save_file(tensors, adapter / "adapter_model.safetensors")
    (tmp_path / "new").mkdir()
    with pytest.raises(SubmissionRejected) as caught:
        write_language_base(base_folder, adapter, tmp_path / "new")
    assert caught.value.code == "tensor_not_finite"


@pytest.mark.parametrize("text_encoders", [False, True], ids=["denoiser", "and text encoders"])
def test_an_image_base_has_the_networks_that_were_measured(tmp_path: Path, *, text_encoders: bool) -> None:
    old, new, lora = write_tiny_pipeline(tmp_path / "old", "sd"), tmp_path / "new", tmp_path / "lora"
    torch.manual_seed(0)
    made = load_image_base(old, CPU)
    shape = LoraShape(rank=4, alpha=8.0)
    add_lora(made, shape, targets="all", text_encoders=text_encoders)
    for name, weight in made.parts().named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(weight, std=0.1)
    lora.mkdir()
    write_lora(made, lora, shape)
    new.mkdir()
    write_image_base(old, lora, new)
    base = load_image_base(old, CPU)
    with lora_applied(base, lora):
        wanted = {name: weight.clone() for name, weight in base.parts().named_parameters()}
    found = dict(load_image_base(new, CPU).parts().named_parameters())
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[name], wanted[name], rtol=1e-3, atol=1e-6) for name in wanted)  # rounded once
    assert files_of(new).keys() == files_of(old).keys()
    changed = {path for path in files_of(old) if (old / path).read_bytes() != (new / path).read_bytes()}
    assert {path.partition("/")[0] for path in changed} == {"unet"} | ({"text_encoder"} if text_encoders else set())
    assert base_in("new", new).digest != base_in("old", old).digest
