"""LoRA by peft: put on a model, and written so that anybody's peft reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

from gradients.ml.tensor_files import write_tensors

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class LoraShape:
    """How much an adapter can change."""

    rank: int
    alpha: float
    dropout: float = 0.0
    rank_stabilised: bool = False  # scale by alpha / sqrt(rank) (arXiv 2312.03732)


def add_adapter(model: PreTrainedModel, shape: LoraShape) -> PreTrainedModel:
    """The model with a fresh adapter on every linear layer but the head; only the adapter trains. Uses torch's global seed."""
    config = LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,
        lora_dropout=shape.dropout,
        use_rslora=shape.rank_stabilised,
        target_modules="all-linear",
        bias="none",
    )
    return get_peft_model(model, config)


def write_adapter(model: PreTrainedModel, folder: Path, *, base_name: str) -> None:
    """Write adapter_config.json and adapter_model.safetensors."""
    config = model.peft_config["default"]
    config.base_model_name_or_path = base_name  # peft notes the local path, which is private
    config.inference_mode = True
    config.save_pretrained(folder)
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in get_peft_model_state_dict(model, save_embedding_layers=False).items()
    }
    write_tensors(folder / "adapter_model.safetensors", tensors, header={"format": "pt"})
