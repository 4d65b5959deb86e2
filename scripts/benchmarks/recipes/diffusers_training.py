"""The baselines of pictures, trained as diffusers' examples train: a plain loop over diffusers and peft with an arm's settings.

What the examples for text-to-image and DreamBooth have in common, and AutoTrain with them: AdamW, a constant rate, a LoRA on attention
alone whose alpha is its rank, all steps of noise alike, gradients cut at a norm of 1, the last weights handed in.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch.nn.functional import mse_loss

from scripts.benchmarks.recipes import picture_judge
from scripts.benchmarks.recipes.arms import Diffusers
from scripts.benchmarks.recipes.rows import Picture

ATTENTION = ["to_k", "to_q", "to_v", "to_out.0"]
WEIGHT_DECAY, MOST_NORM = 1e-2, 1.0


def train(
    settings: Diffusers,
    rows: Sequence[Picture],
    base: Path,
    folder: Path,
    *,
    seed: int,
    deadline: float | None = None,
) -> None:
    """Leave the trained LoRA in `folder`."""
    torch.manual_seed(seed)
    pipeline = picture_judge.load(base)
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.unet):
        part.requires_grad_(False)
    pipeline.unet.add_adapter(
        LoraConfig(r=settings.rank, lora_alpha=settings.rank, init_lora_weights="gaussian", target_modules=ATTENTION)
    )
    trained = [weight for weight in pipeline.unet.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=WEIGHT_DECAY)
    images, captions = picture_judge.colours(rows), picture_judge.states(pipeline, [row.prompt for row in rows])
    order = batches(len(rows), settings.batch_rows)
    pipeline.unet.train()
    for _ in range(settings.steps):
        if deadline is not None and time.time() >= deadline:
            break
        batch = next(order)
        with torch.no_grad():
            clean = pipeline.vae.encode(images[batch]).latent_dist.sample() * pipeline.vae.config.scaling_factor
        noise = torch.randn_like(clean)
        timesteps = torch.randint(0, pipeline.scheduler.config.num_train_timesteps, (len(batch),))
        noisy = pipeline.scheduler.add_noise(clean, noise, timesteps)
        wanted = picture_judge.target(pipeline, clean, noise, timesteps)
        mse_loss(pipeline.unet(noisy, timesteps, captions[batch]).sample, wanted).backward()
        torch.nn.utils.clip_grad_norm_(trained, MOST_NORM)
        optimiser.step()
        optimiser.zero_grad()
    tensors = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipeline.unet))
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=tensors)


def batches(rows: int, size: int) -> Iterator[torch.Tensor]:
    """Places of `size` rows, each row once before any comes again."""
    waiting = torch.empty(0, dtype=torch.int64)
    while True:
        while len(waiting) < size:
            waiting = torch.cat([waiting, torch.randperm(rows)])
        yield waiting[:size]
        waiting = waiting[size:]
