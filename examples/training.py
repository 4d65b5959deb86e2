"""The part of a miner that everybody writes anew: a LoRA on prompts and answers, with transformers and peft and nothing of ours."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

RANK, RATE, ROWS_PER_STEP, EPOCHS, MOST_TOKENS = 16, 2e-3, 8, 3, 512


def train(base: Path, rows: Sequence[dict[str, str]], repo: Path, *, seed: int, ends: float) -> None:
    """Leave adapter_config.json and adapter_model.safetensors in `repo`, before `ends` of the monotonic clock."""
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear"))
    optimiser = torch.optim.AdamW((each for each in model.parameters() if each.requires_grad), lr=RATE)
    order = [number for _ in range(EPOCHS) for number in random.Random(seed).sample(range(len(rows)), len(rows))]
    for done, number in enumerate(order, start=1):
        asked = [{"role": "user", "content": rows[number]["prompt"]}]
        answered = [*asked, {"role": "assistant", "content": rows[number]["completion"]}]
        prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
        tokens = tokenizer.apply_chat_template(answered, return_dict=False)[:MOST_TOKENS]
        labels = [-100] * len(prompt) + tokens[len(prompt) :]
        if len(tokens) > len(prompt):
            loss = model(input_ids=torch.tensor([tokens]), labels=torch.tensor([labels])).loss
            (loss / ROWS_PER_STEP).backward()
        if done % ROWS_PER_STEP == 0:
            optimiser.step()
            optimiser.zero_grad()
        if time.monotonic() > ends:
            break
    model.save_pretrained(repo)
