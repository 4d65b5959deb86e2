"""A base model for tests: a random Llama with its own tokenizer and chat template, written in a blink and without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_LINES = (
    "Define the noun: harbour",
    "a place where ships find shelter from the weather",
    "Define the verb: to anneal",
    "heat metal and let it cool slowly so that it becomes less brittle",
    "You answer in one short sentence.",
)


@dataclass(frozen=True, slots=True)
class Shape:
    """How large the model is. The default has about 100,000 weights."""

    vocabulary: int = 320
    hidden: int = 48
    layers: int = 2
    heads: int = 4
    key_value_heads: int = 2
    feed_forward: int = 128
    context: int = 512


def write_tiny_llama(folder: Path, seed: int = 0, *, shape: Shape | None = None) -> Path:
    """Write config, fp16 weights and tokenizer of a random Llama with tied embeddings into `folder`, and return it."""
    shape = shape or Shape()
    folder.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(folder, shape)
    _write_json(folder / "config.json", _config(shape))
    _write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})
    save_file(_weights(shape, seed), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _config(shape: Shape) -> Mapping[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        "max_position_embeddings": shape.context,
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "dtype": "float16",
    }


def _weights(shape: Shape, seed: int) -> dict[str, NDArray[np.float16]]:
    """All tensors under the names that transformers gives them."""
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> NDArray[np.float16]:
        return random.normal(0.0, 1 / math.sqrt(columns), (rows, columns)).astype(np.float16)

    ones = np.ones(shape.hidden, dtype=np.float16)
    narrow = shape.hidden * shape.key_value_heads // shape.heads
    tensors = {"model.embed_tokens.weight": matrix(shape.vocabulary, shape.hidden), "model.norm.weight": ones}
    for number in range(shape.layers):
        layer = f"model.layers.{number}"
        tensors |= {
            f"{layer}.self_attn.q_proj.weight": matrix(shape.hidden, shape.hidden),
            f"{layer}.self_attn.k_proj.weight": matrix(narrow, shape.hidden),
            f"{layer}.self_attn.v_proj.weight": matrix(narrow, shape.hidden),
            f"{layer}.self_attn.o_proj.weight": matrix(shape.hidden, shape.hidden),
            f"{layer}.mlp.gate_proj.weight": matrix(shape.feed_forward, shape.hidden),
            f"{layer}.mlp.up_proj.weight": matrix(shape.feed_forward, shape.hidden),
            f"{layer}.mlp.down_proj.weight": matrix(shape.hidden, shape.feed_forward),
            f"{layer}.input_layernorm.weight": ones,
            f"{layer}.post_attention_layernorm.weight": ones,
        }
    return tensors


def _write_tokenizer(folder: Path, shape: Shape) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_LINES, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIAL_TOKENS[1],
            "eos_token": SPECIAL_TOKENS[2],
            "pad_token": SPECIAL_TOKENS[0],
            "model_max_length": shape.context,
            "chat_template": CHAT_TEMPLATE,
        },
    )


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2))
