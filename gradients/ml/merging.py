"""An adapter put into its base for good, by the libraries that a customer would use, so that any program can serve it.

Covers: delivered models, whose configs are ours and whose weights were screened and measured. Does not cover: what a miner sends, which is
only ever read by `submission.py` and `diffusion_lora.py`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from transformers import GenerationConfig

from gradients.ml.base_model import load_base
from gradients.ml.device import Device
from gradients.ml.diffusion_lora import WEIGHTS

SHARD_SIZE = "5GB"


def merge_adapter(base_folder: Path, adapter_folder: Path, target: Path) -> None:
    """Leave config and weights of the merged model in `target`: summed in float32, rounded once to the base's own precision.

    Takes four bytes of memory for each weight. Raises ModelUnknown for a base that cannot be read.
    """
    from peft import PeftModel

    base = load_base(base_folder, Device("cpu"))
    merged = PeftModel.from_pretrained(base.model.float(), adapter_folder).merge_and_unload(safe_merge=True)
    # The base's settings are put beside the model as they are; some published ones are refused when they are written anew.
    merged.generation_config = GenerationConfig()
    merged.to(base.stored_dtype).save_pretrained(target, max_shard_size=SHARD_SIZE)
    (target / "generation_config.json").unlink(missing_ok=True)


def fuse_lora(base_folder: Path, lora_folder: Path, target: Path) -> None:
    """Leave the whole pipeline in `target`, in the precision that its denoiser is stored in."""
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(base_folder, torch_dtype=torch.float32, local_files_only=True)
    pipeline.load_lora_weights(lora_folder, weight_name=WEIGHTS)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    pipeline.to(dtype=_stored_dtype(base_folder)).save_pretrained(target, safe_serialization=True)


def _stored_dtype(folder: Path) -> torch.dtype:
    """Of a pipeline's denoiser."""
    [file, *_] = sorted([*folder.glob("unet/*.safetensors"), *folder.glob("transformer/*.safetensors")])
    with safe_open(file, framework="pt") as tensors:
        return tensors.get_tensor(next(iter(tensors.keys()))).dtype
