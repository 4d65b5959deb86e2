"""What a step on pictures takes of memory on diffusers' own denoisers, against gradients/tasks/picture_footprint.py.

The denoisers have their real blocks at smaller widths, and lie on torch's "meta" device: tensors have sizes and no content, so that bytes
are counted of widths that no test could compute. What CUDA's autocast casts is cast here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel, UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from gradients.tasks.footprint import GIB, Way
from gradients.tasks.picture_footprint import LORA_BYTES, Pipeline, picture_footprint, pipeline_in
from tests.ml.test_footprints import Alive

RANK = 4
GPU = 8 * GIB
NARROW = {functional.linear, functional.conv2d, functional.scaled_dot_product_attention, torch.matmul, torch.bmm}
WIDE = {functional.group_norm, functional.layer_norm, functional.softmax, functional.rms_norm, torch.pow, torch.rsqrt}


class Precision(TorchFunctionMode):  # type: ignore[misc] # torch carries no types there
    """What autocast does to arguments on a GPU, or nothing; attention is flash attention on both."""

    def __init__(self, *, on_gpu: bool) -> None:
        super().__init__()
        self._on_gpu = on_gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401 (torch's)
        kwargs = kwargs or {}
        dtype = torch.bfloat16 if func in NARROW else torch.float32 if func in WIDE else None
        if self._on_gpu and dtype is not None:
            args = tuple(map(partial(_cast, dtype), args))
            kwargs = {name: _cast(dtype, value) for name, value in kwargs.items()}
        if func is functional.scaled_dot_product_attention:
            given = args[:3] if len(args) >= 3 else (kwargs["query"], kwargs["key"], kwargs["value"])
            assert kwargs.get("attn_mask") is None
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*given)[0]
        return func(*args, **kwargs)


def _cast(dtype: torch.dtype, value: Any) -> Any:  # noqa: ANN401
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.dtype.is_floating_point else value


class Architecture(NamedTuple):
    """A denoiser, and how it is called on so many pictures."""

    folder: str
    pixels: int
    make: Callable[[], torch.nn.Module]
    call: Callable[[torch.nn.Module, int], Any]


def unet(**changes: Any) -> torch.nn.Module:  # noqa: ANN401 (diffusers')
    return UNet2DConditionModel(sample_size=32, **changes)


def call_unet(model: torch.nn.Module, rows: int) -> Any:  # noqa: ANN401
    width = model.config.cross_attention_dim
    added = {"text_embeds": torch.empty(rows, 128), "time_ids": torch.empty(rows, 6)}
    texts = torch.empty(rows, 77, width)
    return model(torch.empty(rows, 4, 32, 32), torch.empty(rows), texts, added_cond_kwargs=added).sample


def call_sd3(model: torch.nn.Module, rows: int) -> Any:  # noqa: ANN401
    given = {"encoder_hidden_states": torch.empty(rows, 333, 256), "pooled_projections": torch.empty(rows, 64)}
    return model(hidden_states=torch.empty(rows, 16, 64, 64), timestep=torch.empty(rows), **given).sample


def call_flux(model: torch.nn.Module, rows: int) -> Any:  # noqa: ANN401
    given = {"encoder_hidden_states": torch.empty(rows, 512, 256), "pooled_projections": torch.empty(rows, 64)}
    places = {"txt_ids": torch.empty(512, 3), "img_ids": torch.empty(1024, 3)}
    time = torch.empty(rows)
    return model(
        hidden_states=torch.empty(rows, 1024, 64), timestep=time, guidance=torch.empty(rows), **given, **places
    ).sample


SD = partial(
    unet, block_out_channels=(64, 128, 256, 256), layers_per_block=1, cross_attention_dim=96, attention_head_dim=8
)
SDXL = partial(
    unet,
    block_out_channels=(64, 128, 256),
    cross_attention_dim=256,
    attention_head_dim=8,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    layers_per_block=1,
    transformer_layers_per_block=(1, 2, 4),
    use_linear_projection=True,
    addition_embed_type="text_time",
    addition_time_embed_dim=32,
    projection_class_embeddings_input_dim=6 * 32 + 128,
)
SD3 = partial(
    SD3Transformer2DModel,
    sample_size=64,
    patch_size=2,
    in_channels=16,
    out_channels=16,
    num_layers=6,
    attention_head_dim=32,
    num_attention_heads=8,
    joint_attention_dim=256,
    caption_projection_dim=256,
    pooled_projection_dim=64,
)
FLUX = partial(
    FluxTransformer2DModel,
    in_channels=64,
    num_layers=3,
    num_single_layers=6,
    attention_head_dim=32,
    num_attention_heads=8,
    joint_attention_dim=256,
    pooled_projection_dim=64,
    guidance_embeds=True,
    axes_dims_rope=(8, 12, 12),
)
ARCHITECTURES = {
    "SD 1.5": Architecture("unet", 256, SD, call_unet),
    "SDXL": Architecture("unet", 256, SDXL, call_unet),
    "SD3": Architecture("transformer", 512, SD3, call_sd3),
    "Flux": Architecture("transformer", 512, FLUX, call_flux),
}


@cache
def measured(name: str, *, on_gpu: bool, again: bool) -> tuple[int, int]:
    """Bytes that a second picture adds to what a step takes at the most, and the weights of its LoRA."""
    architecture, peaks = ARCHITECTURES[name], list[int]()
    with torch.device("meta"):
        model = architecture.make().requires_grad_(False)
        layers = [n for n, part in model.named_modules() if isinstance(part, torch.nn.Linear | torch.nn.Conv2d)]
        inject_adapter_in_model(LoraConfig(r=RANK, target_modules=layers), model)
        if again:
            inside = (nullcontext(), Precision(on_gpu=on_gpu))  # as autocast is taken into it
            how = partial(checkpoint, use_reentrant=False, context_fn=lambda: inside)
            model.enable_gradient_checkpointing(how)
        model.train()
        for rows in (1, 2):
            with Precision(on_gpu=on_gpu), Alive(model) as meter:
                torch.autograd.backward([architecture.call(model, rows).float().square().mean()])
            peaks.append(meter.peak)
            model.zero_grad()
    return peaks[1] - peaks[0], sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def shape_of(name: str, folder: Path) -> Pipeline:
    """As it is read from the files of its pipeline."""
    architecture = ARCHITECTURES[name]
    with torch.device("meta"):
        model = architecture.make()
    model.save_config(folder / architecture.folder)
    (folder / "vae").mkdir()
    (folder / "vae" / "config.json").write_text(json.dumps({"block_out_channels": [128, 256, 512, 512]}))
    found = pipeline_in(folder, 10**6)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(("on_gpu", "again"), [(True, False), (True, True), (False, False)])
def test_a_picture_takes_what_was_planned_within_a_quarter(
    name: str, on_gpu: bool, again: bool, tmp_path: Path
) -> None:
    peak, _ = measured(name, on_gpu=on_gpu, again=again)
    way = Way("lora", RANK, checkpointing=again)
    pixels = ARCHITECTURES[name].pixels
    taken = picture_footprint(shape_of(name, tmp_path), way, gpu_bytes=GPU if on_gpu else None, pixels=pixels)
    assert peak == pytest.approx(taken.by_token, rel=0.25)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_lora_has_the_weights_that_were_planned(name: str, tmp_path: Path) -> None:
    _, weights = measured(name, on_gpu=True, again=False)
    taken = picture_footprint(shape_of(name, tmp_path), Way("lora", RANK), gpu_bytes=GPU)
    assert weights == pytest.approx(taken.trained / LORA_BYTES, rel=0.1)
