"""The card of the small text-to-image model: what it is, measured figures out of its training record, and its limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CARD = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
tags: [stable-diffusion, small, demo]
---

# nano-image

A Stable Diffusion pipeline of {parameters:,} parameters that draws 32 x 32 pixels: an autoencoder (16 x 16 latents of 4 channels), a UNet
with cross-attention, and a CLIP text encoder of two layers with its own tokenizer. It is the base of diffusion tasks in the market on one
machine: small enough for a LoRA to be trained on a CPU core in a minute, and trained enough for the LoRA to show.

| part | parameters |
|---|---|
{parts}

## Use

```python
from diffusers import StableDiffusionPipeline

pipeline = StableDiffusionPipeline.from_pretrained("gradients/assets/models/nano-image", dtype="float32")
pipeline("red apple", height=32, width=32, num_inference_steps=20, guidance_scale=2.0).images[0]
```

The UNet predicts velocity. Weights are stored as float16; load them as float32 on a CPU.

## Training

Pretrained by `scripts/pretrain-images` on {images:,} drawings of Noto emoji with their names as captions (no flags, no skin tones), in
{minutes:.0f} minutes of {machine}. `training.json` records seed, recipe, package with its SHA-256, and every measured loss. On {held_out}
drawings that were kept from training, the autoencoder's error is {autoencoder:.4f} (mean square, colours from -1 to 1); the weighted
denoising loss fell from {first:.4f} to {last:.4f}.

## Limits and licence

It draws blobs of the right colours in the manner of emoji, of which captions are a weak hint: minutes of training teach a style, not
meaning. Drawings: Noto Emoji by Google, Apache License 2.0, through the package `{package}`. The weights are under the Apache License
2.0.
"""


def image_model_card(record: Mapping[str, Any]) -> str:
    """The card of a model with this training record."""
    denoising = [point for point in record["losses"] if point["phase"] == "denoising"]
    autoencoder = [point for point in record["losses"] if point["phase"] == "autoencoder"]
    return _CARD.format(
        parameters=sum(record["parameters"].values()),
        parts="\n".join(f"| {part} | {count:,} |" for part, count in record["parameters"].items()),
        images=record["images"],
        held_out=record["held_out_images"],
        minutes=(autoencoder[-1]["seconds"] + denoising[-1]["seconds"]) / 60,
        machine=record["machine"],
        autoencoder=autoencoder[-1]["held_out_loss"],
        first=denoising[0]["held_out_loss"],
        last=denoising[-1]["held_out_loss"],
        package=record["package"]["name"],
    )
