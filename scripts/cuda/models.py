"""Random base models of real shapes, written on the device that is there: a 7B in bfloat16 takes seconds, not minutes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from peft import get_peft_model_state_dict
from transformers import AutoConfig, AutoModelForCausalLM

from gradients.ml.adapters import LoraShape, add_adapter
from gradients.ml.tensor_files import write_tensors
from gradients.testing.tiny_models import Shape, write_tiny_llama

TINY = Shape()
HALF_B = Shape(vocabulary=151_936, hidden=896, layers=24, heads=14, key_value_heads=2, feed_forward=4864, context=4096)
ONE_AND_A_HALF_B = Shape(
    vocabulary=151_936, hidden=1536, layers=28, heads=12, key_value_heads=2, feed_forward=8960, context=4096
)
SEVEN_B = Shape(
    vocabulary=32_000, hidden=4096, layers=32, heads=32, key_value_heads=8, feed_forward=14_336, context=4096
)


def write_random_llama(folder: Path, shape: Shape, *, device: str, seed: int = 0) -> int:
    """A random Llama in bfloat16 with tied embeddings, one file a layer, and a tokenizer of 320 pieces. Returns its weights."""
    write_tiny_llama(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        "max_position_embeddings": shape.context,
        "dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").unlink()
    torch.manual_seed(seed)
    where, parameters = dict[str, str](), 0
    parts = list(_parts(shape))
    for number, sizes in enumerate(parts, start=1):
        name = f"model-{number:05}-of-{len(parts):05}.safetensors"
        tensors = {
            tensor: torch.ones(size, dtype=torch.bfloat16)
            if len(size) == 1
            else (torch.randn(size, device=device, dtype=torch.bfloat16) / math.sqrt(size[-1])).cpu()
            for tensor, size in sizes.items()
        }
        write_tensors(folder / name, tensors, header={"format": "pt"})
        where |= dict.fromkeys(tensors, name)
        parameters += sum(tensor.numel() for tensor in tensors.values())
    index = {"metadata": {"total_size": 2 * parameters}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return parameters


def write_random_adapter(base: Path, folder: Path, *, rank: int, seed: int) -> Path:
    """A LoRA on every linear layer, both factors random and small, as peft reads it. The base is never loaded."""
    with torch.device("meta"):
        adapted = add_adapter(
            AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base)), LoraShape(rank, 2.0 * rank)
        )
    folder.mkdir(parents=True)
    config = adapted.peft_config["default"]
    config.base_model_name_or_path, config.inference_mode = base.name, True
    config.save_pretrained(folder)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randn(tensor.shape, generator=generator) * 0.01
        for name, tensor in get_peft_model_state_dict(adapted, save_embedding_layers=False).items()
    }
    write_tensors(folder / "adapter_model.safetensors", tensors, header={"format": "pt"})
    return folder


def _parts(shape: Shape) -> Iterator[dict[str, tuple[int, ...]]]:
    """Sizes of the tensors of each file."""
    narrow = shape.hidden * shape.key_value_heads // shape.heads
    yield {"model.embed_tokens.weight": (shape.vocabulary, shape.hidden), "model.norm.weight": (shape.hidden,)}
    for number in range(shape.layers):
        layer = f"model.layers.{number}"
        yield {
            f"{layer}.self_attn.q_proj.weight": (shape.hidden, shape.hidden),
            f"{layer}.self_attn.k_proj.weight": (narrow, shape.hidden),
            f"{layer}.self_attn.v_proj.weight": (narrow, shape.hidden),
            f"{layer}.self_attn.o_proj.weight": (shape.hidden, shape.hidden),
            f"{layer}.mlp.gate_proj.weight": (shape.feed_forward, shape.hidden),
            f"{layer}.mlp.up_proj.weight": (shape.feed_forward, shape.hidden),
            f"{layer}.mlp.down_proj.weight": (shape.hidden, shape.feed_forward),
            f"{layer}.input_layernorm.weight": (shape.hidden,),
            f"{layer}.post_attention_layernorm.weight": (shape.hidden,),
        }
