"""LoRA by peft: put on a model, and written so that anybody's peft reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transformers.pytorch_utils import Conv1D

from gradients.ml.low_bits import counted_as_absent
from gradients.ml.shards import whole
from gradients.ml.submission import is_linear
from gradients.ml.tensor_files import write_tensors

with counted_as_absent():  # layers in 4 bits are adapted as any linear layer is
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

if TYPE_CHECKING:
    from transformers import PreTrainedModel


# Whose fused kernels read the weight of `out_proj` past any adapter; peft refuses to adapt it.
_MAMBA = frozenset({"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"})


# What stands beside the attention in models of experts, by names that peft takes for the experts' own.
_FEED_FORWARD = frozenset(
    {"mlp", "feed_forward", "ffn", "moe", "block_sparse_moe", "shared_experts", "shared_expert", "shared_mlp"}
)
_OF_EXPERTS = ("gate_proj", "up_proj", "down_proj", "w1", "w2", "w3")


@dataclass(frozen=True, slots=True)
class LoraShape:
    """How much an adapter can change."""

    rank: int
    alpha: float
    dropout: float = 0.0
    rank_stabilised: bool = False  # scale by alpha / sqrt(rank) (arXiv 2312.03732)


def add_adapter(model: PreTrainedModel, shape: LoraShape) -> PreTrainedModel:
    """The model with a fresh adapter on every linear layer but the head; only the adapter trains. Uses torch's global seed.

    In models of experts the attention alone is adapted: peft takes the usual names of the other layers for the experts' fused weights,
    which are not layers of their own.
    """
    head = model.get_output_embeddings()
    linear = {name: layer for name, layer in model.named_modules() if is_linear(layer) and layer is not head}
    layers = list(linear)
    if model.config.model_type in _MAMBA:
        layers = [name for name in layers if not name.endswith(".out_proj")]
    if any(".experts" in name for name, _ in model.named_modules()):
        layers = [n for n in layers if not (_FEED_FORWARD.intersection(n.split(".")) or n.endswith(_OF_EXPERTS))]
    config = LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,
        lora_dropout=shape.dropout,
        use_rslora=shape.rank_stabilised,
        target_modules="|".join(map(re.escape, layers)),
        bias="none",
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in linear.values()),
    )
    if getattr(model, "is_quantized", False):
        model._hf_peft_config_loaded = True  # what its Trainer looks at before it trains on a base in 4 bits
    with counted_as_absent():
        return get_peft_model(model, config)


def write_adapter(model: PreTrainedModel, folder: Path | None, *, base_name: str) -> None:
    """Write adapter_config.json and adapter_model.safetensors; None only helps the process that does to the parts of weights."""
    config = model.peft_config["default"]
    config.base_model_name_or_path = base_name  # peft notes the local path, which is private
    config.inference_mode = True
    tensors = {
        name: whole(tensor.detach()).cpu().contiguous()
        for name, tensor in get_peft_model_state_dict(model, save_embedding_layers=False).items()
    }
    if folder is None:
        return
    config.save_pretrained(folder)
    write_tensors(folder / "adapter_model.safetensors", tensors, header={"format": "pt"})
