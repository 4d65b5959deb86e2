"""Sentence embeddings of a BERT-like encoder: the mean of the last layer over the text's tokens, at length 1.

Run as a process: `python -m gradients.ml.sentence_embeddings <encoder folder> <texts.json> <vectors.safetensors>`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

MOST_TOKENS = 256  # what all-MiniLM-L6-v2 was trained on
BATCH_TEXTS = 32


def embed(encoder: Path, texts: Sequence[str]) -> torch.Tensor:
    """[texts, size], float32, in the order of the texts; shorter texts share batches so that little is padded."""
    tokenizer = AutoTokenizer.from_pretrained(encoder, local_files_only=True, trust_remote_code=False)
    model = AutoModel.from_pretrained(
        encoder, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
    ).eval()
    order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
    vectors = torch.empty(len(texts), int(model.config.hidden_size))
    for start in range(0, len(order), BATCH_TEXTS):
        positions = order[start : start + BATCH_TEXTS]
        batch = tokenizer(
            [texts[i] for i in positions], padding=True, truncation=True, max_length=MOST_TOKENS, return_tensors="pt"
        )
        with torch.inference_mode():
            states = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
        vectors[positions] = normalize((states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1), dim=1)
    return vectors


if __name__ == "__main__":
    encoder_folder, texts_file, vectors_file = map(Path, sys.argv[1:])
    save_file({"vectors": embed(encoder_folder, json.loads(texts_file.read_text(encoding="utf-8")))}, vectors_file)
