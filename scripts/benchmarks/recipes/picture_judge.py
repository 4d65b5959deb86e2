"""The judge of pictures: a plain loop over diffusers. Nothing of gradients is in it, as in the judge of texts beside it.

How far the denoiser is from telling a picture's noise, at five fixed steps of the base's own schedule, on noise that is the same for
every arm and seed: a quarter with the caption, three quarters with none, as the paper weighs (arXiv 2506.07940).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from scripts.benchmarks.recipes.rows import Picture

TIMESTEPS = (100, 300, 500, 700, 900)  # of 1,000
CAPTION_SHARE, EMPTY_SHARE = 0.25, 0.75

Pipeline = Any  # diffusers' carry no types


def load(base: Path, repo: Path | None = None) -> Pipeline:
    """A Stable Diffusion pipeline, with the LoRA that a run has handed in."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    pipeline: Pipeline = StableDiffusionPipeline.from_pretrained(base, dtype=torch.float32)
    if repo is not None:
        pipeline.load_lora_weights(repo)
    pipeline.unet.eval()
    return pipeline


def colours(rows: Sequence[Picture]) -> torch.Tensor:
    """The pictures as an autoencoder reads them [rows, 3, height, width], -1 to 1."""
    images = [Image.open(io.BytesIO(base64.b64decode(row.image))).convert("RGB") for row in rows]
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).float() / 127.5 - 1


def states(pipeline: Pipeline, captions: Sequence[str]) -> torch.Tensor:
    """The captions as the denoiser reads them [captions, tokens, width]."""
    tokenizer = pipeline.tokenizer
    tokens = tokenizer(
        list(captions),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    )
    found: torch.Tensor = pipeline.text_encoder(tokens.input_ids)[0]
    return found


def target(pipeline: Pipeline, clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """What the denoiser is to say, in the base's own words: the noise, or a velocity."""
    alphas = pipeline.scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    if pipeline.scheduler.config.prediction_type == "epsilon":
        return noise
    velocity: torch.Tensor = alphas.sqrt() * noise - (1 - alphas).sqrt() * clean
    return velocity


def losses(pipeline: Pipeline, rows: Sequence[Picture], *, seeds: Sequence[int] | None = None) -> list[float]:
    """Each picture's mean squared error.

    Args:
        seeds: of each row's noise; its number, where there are none.
    """
    found, levels, timesteps = [], len(TIMESTEPS), torch.tensor(TIMESTEPS * 2)
    with torch.inference_mode():
        for number, row in enumerate(rows):
            encoded = pipeline.vae.encode(colours([row])).latent_dist.mode() * pipeline.vae.config.scaling_factor
            clean = encoded.expand(2 * levels, -1, -1, -1)
            generator = torch.Generator().manual_seed(seeds[number] if seeds else number)
            noise = torch.randn(levels, *clean.shape[1:], generator=generator).repeat(2, 1, 1, 1)
            noisy = pipeline.scheduler.add_noise(clean, noise, timesteps)
            said = states(pipeline, [row.prompt, ""]).repeat_interleave(levels, dim=0)
            predicted = pipeline.unet(noisy, timesteps, said).sample
            errors = (predicted - target(pipeline, clean, noise, timesteps)).square().mean(dim=(1, 2, 3))
            with_caption, with_none = float(errors[:levels].mean()), float(errors[levels:].mean())
            found.append(CAPTION_SHARE * with_caption + EMPTY_SHARE * with_none)
    return found
