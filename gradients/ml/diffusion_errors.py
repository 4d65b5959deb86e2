"""How well a text-to-image model redraws images that it has not seen, and how well it tells noise from them.

Each row is measured in batches of its own, whose noise comes from the seed and the row's own pixels: no row's error depends on another row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from gradients.ml.diffusion_noise import Noise, denoising_errors, encode_images, noise_of, prediction
from gradients.ml.images import Captioned
from gradients.ml.pipeline_families import Captions
from gradients.ml.pipelines import ImageBase

CAPTION_SHARE, EMPTY_SHARE = 0.25, 0.75  # the paper's weights of drawing with the caption and with none
CALL_PIXELS = 4 * 1024**2  # four images of SDXL's size, which is two seeds
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the denoising loss
PROBE_LEVEL = 0.6  # where both the image and the caption count


@dataclass(frozen=True, slots=True)
class Redrawing:
    """How images are redrawn."""

    strengths: tuple[float, ...]
    seeds: int
    steps: int
    guidance: float
    call_pixels: int = CALL_PIXELS  # of all images that are drawn at once


class Redrawn(NamedTuple):
    """One row's error, and one picture of it for people."""

    error: float  # squared difference of colours from 0 to 1
    shown: torch.Tensor  # [3, height, width]: the empty caption at the middle strength, the first seed


def redraw(base: ImageBase, image: torch.Tensor, caption: str, *, how: Redrawing, seed: int) -> Redrawn:
    """The error of one row [3, height, width] over all strengths and seeds, a quarter with its caption, the rest with none."""
    batches = [
        image_to_image(base, image, caption, strength=strength, how=how, seed=seed) for strength in how.strengths
    ]
    errors = torch.stack([(batch - image).double().square().mean(dim=(1, 2, 3)) for batch in batches])
    with_caption, with_none = errors[:, : how.seeds].mean(), errors[:, how.seeds :].mean()
    error = CAPTION_SHARE * float(with_caption) + EMPTY_SHARE * float(with_none)
    return Redrawn(error, batches[len(batches) // 2][how.seeds])


def image_to_image(
    base: ImageBase, image: torch.Tensor, caption: str, *, strength: float, how: Redrawing, seed: int
) -> torch.Tensor:
    """The image redrawn [2 · seeds, 3, height, width]: with the caption for each seed, then with none, from the same noise."""
    seeds = [row_seed(seed, image, strength, number) for number in range(how.seeds)]
    wanted = [(text, one) for text in (caption, "") for one in seeds]
    at_once = max(1, how.call_pixels // (image.shape[1] * image.shape[2]))
    size = {"height": image.shape[1], "width": image.shape[2]} if base.family.sized else {}
    drawn = []
    for start in range(0, len(wanted), at_once):
        part = wanted[start : start + at_once]
        with torch.inference_mode(), base.device.precision():
            images = base.pipeline(
                prompt=[text for text, _ in part],
                image=image.expand(len(part), -1, -1, -1),
                strength=strength,
                num_inference_steps=how.steps,
                guidance_scale=how.guidance,
                generator=[torch.Generator().manual_seed(one) for _, one in part],
                output_type="pt",
                **size,
            ).images
        drawn.append(torch.as_tensor(images).float().cpu())
    return torch.cat(drawn)


def denoising_loss(
    base: ImageBase, noise: Noise, latents: torch.Tensor, *, captions: Captions, empty: Captions, seeds: Sequence[int]
) -> list[float]:
    """Each row's error in telling the noise, at five levels, with the caption and with none weighed as in redrawing.

    Args:
        latents: [rows, channels, height, width], with captions as many; `empty` is one row.
        seeds: of each row's noise.
    """
    levels = torch.tensor(LEVELS * 2)
    with_then_without = torch.tensor([0] * len(LEVELS) + [1] * len(LEVELS))
    losses = []
    for row, seed in enumerate(seeds):
        one = captions.rows(torch.tensor([row]))
        pooled = None if one.pooled is None or empty.pooled is None else torch.cat([one.pooled, empty.pooled])
        drawn = torch.randn(len(LEVELS), *latents.shape[1:], generator=torch.Generator().manual_seed(seed))
        with torch.inference_mode():
            errors = denoising_errors(
                base,
                noise,
                clean=latents[row].expand(len(levels), -1, -1, -1),
                drawn=drawn.repeat(2, 1, 1, 1),
                levels=levels,
                captions=Captions(torch.cat([one.tokens, empty.tokens]), pooled).rows(with_then_without),
            ).double()
        with_caption, with_none = errors[: len(LEVELS)].mean(), errors[len(LEVELS) :].mean()
        losses.append(CAPTION_SHARE * float(with_caption) + EMPTY_SHARE * float(with_none))
    return losses


def probe_predictions(base: ImageBase, rows: Captioned, *, seeds: Sequence[int]) -> torch.Tensor:
    """What the denoiser says about each row at one level of noise, with its caption: one pass a row, all numbers after one another.

    Args:
        seeds: of each row's noise; there may be more.
    """
    noise, levels = noise_of(base), torch.tensor([PROBE_LEVEL])
    said = []
    with torch.inference_mode():
        captions = base.family.encode(base.pipeline, rows.captions)
        for row, (latent, seed) in enumerate(zip(encode_images(base, rows.images).split(1), seeds, strict=False)):
            drawn = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed))
            noisy = noise.noisy(latent.cpu(), drawn, levels).to(latent)
            one = captions.rows(torch.tensor([row]))
            said.append(prediction(base, noise, noisy=noisy, levels=levels, captions=one).flatten())
    return torch.cat(said)


def row_seed(seed: int, image: torch.Tensor, *parts: float) -> int:
    """A seed that only somebody with the seed and the image can know, 63 bits."""
    content = f"{seed}|{parts}|".encode() + image.numpy().tobytes()
    return int.from_bytes(hashlib.sha256(content).digest()[:8]) >> 1
