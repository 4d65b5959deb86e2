"""The shape of the model and the folder that it is stored in."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from scripts.pretraining.chat import CHAT_TEMPLATE, END_OF_TEXT, END_OF_TURN, exchange

HEAD_SIZE = 32
SAMPLING = {"do_sample": True, "temperature": 0.7, "top_p": 0.95}
SAMPLE_PROMPTS = (
    f"{END_OF_TEXT}The President of the United States",
    f"{END_OF_TEXT}In Python, the function",
    f"{END_OF_TEXT}And the king said unto",
    f"{END_OF_TEXT}Call me",
    exchange("Use the word river in a sentence.", "").removesuffix(f"{END_OF_TURN}\n"),
    exchange("Give me a quote about work.", "").removesuffix(f"{END_OF_TURN}\n"),
)


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Llama; `context` is its limit in tokens."""

    hidden: int
    layers: int
    context: int


def build_model(tokenizer: PreTrainedTokenizerFast, shape: Shape, *, seed: int) -> LlamaForCausalLM:
    """A Llama with fresh weights drawn from `seed`; a third of its heads hold keys and values."""
    torch.manual_seed(seed)
    heads = shape.hidden // HEAD_SIZE
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.hidden * 8 // 3,
        num_hidden_layers=shape.layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 3),
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def export_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a folder that `from_pretrained` reads, weights in fp16; `model` stays as it was."""
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    half = LlamaForCausalLM(model.config)
    half.load_state_dict(model.state_dict())
    half.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.bos_token_id],
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=96,
        **SAMPLING,
    )
    half.to(torch.float16).save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    _make_tokenizer_config_portable(partial / "tokenizer_config.json")
    (partial / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    for file in partial.iterdir():
        file.chmod(0o644)
        file.replace(folder / file.name)
    partial.rmdir()


def _make_tokenizer_config_portable(path: Path) -> None:
    """transformers 5 writes how the tokenizer was loaded, and a class name that version 4 does not know."""
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("is_local", "local_files_only", "backend"):
        config.pop(key, None)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def samples(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> list[str]:
    """What the model writes after each of SAMPLE_PROMPTS, at temperature 0.7."""
    torch.manual_seed(seed)
    model.eval()
    written = []
    for prompt in SAMPLE_PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").to(model.device)
        out = model.generate(**ids, **SAMPLING, max_new_tokens=60)
        written.append(str(tokenizer.decode(out[0])))
    return written
