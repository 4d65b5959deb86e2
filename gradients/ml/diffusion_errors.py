"""How well a text-to-image model redraws images that it has not seen, and how well it tells noise from them.

Noise comes from the seed and the row's own pixels. Rows share batches, which changes their errors by rounding and no more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from gradients.ml.diffusion_noise import Noise, denoising_errors, encode_images, noise_of, prediction
from gradients.ml.images import Captioned
from gradients.ml.pipeline_families import Captions
from gradients.ml.pipelines import ImageBase

CAPTION_SHARE, EMPTY_SHARE = 0.25, 0.75  # the paper's weights of drawing with the caption and with none
CALL_PIXELS = 4 * 1024**2  # four images of SDXL's size, which is two seeds
CALL_IMAGES = 48  # small images gain nothing from more, on a core
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


def lay_out_for_cpu(base: ImageBase) -> None:
    """Put the weights of convolutions in the order that a CPU multiplies them in, or they are put so in each call; all numbers stay."""
    for part in (base.denoiser, base.pipeline.vae):
        part.to(memory_format=torch.channels_last)


def redraw(base: ImageBase, image: torch.Tensor, caption: str, *, how: Redrawing, seed: int) -> Redrawn:
    """The error of one row [3, height, width] over all strengths and seeds, a quarter with its caption, the rest with none."""
    (redrawn,) = redraw_all(base, Captioned(image[None], [caption]), how=how, seed=seed)
    return redrawn


def redraw_all(base: ImageBase, rows: Captioned, *, how: Redrawing, seed: int) -> Iterator[Redrawn]:
    """The errors of all rows, in their order, as they become known."""
    at_once = max(1, images_at_once(rows.images, how) // (2 * how.seeds))
    for start in range(0, len(rows.captions), at_once):
        some = Captioned(rows.images[start : start + at_once], rows.captions[start : start + at_once])
        by_strength = [image_to_image(base, some, strength=strength, how=how, seed=seed) for strength in how.strengths]
        for row, image in enumerate(some.images):
            batches = [drawn[row] for drawn in by_strength]
            errors = torch.stack([(batch - image).double().square().mean(dim=(1, 2, 3)) for batch in batches])
            with_caption, with_none = errors[:, : how.seeds].mean(), errors[:, how.seeds :].mean()
            error = CAPTION_SHARE * float(with_caption) + EMPTY_SHARE * float(with_none)
            yield Redrawn(error, batches[len(batches) // 2][how.seeds])


def image_to_image(base: ImageBase, rows: Captioned, *, strength: float, how: Redrawing, seed: int) -> torch.Tensor:
    """The images redrawn [rows, 2 · seeds, 3, height, width]: with the caption for each seed, then with none, from the same noise."""
    wanted = [
        (image, text, row_seed(seed, image, strength, number))
        for image, caption in zip(rows.images, rows.captions, strict=True)
        for text in (caption, "")
        for number in range(how.seeds)
    ]
    size = {"height": rows.images.shape[2], "width": rows.images.shape[3]} if base.family.sized else {}
    at_once, drawn = images_at_once(rows.images, how), []
    for start in range(0, len(wanted), at_once):
        part = wanted[start : start + at_once]
        with torch.inference_mode(), base.device.precision():
            images = base.pipeline(
                prompt=[text for _, text, _ in part],
                image=torch.stack([image for image, _, _ in part]),
                strength=strength,
                num_inference_steps=how.steps,
                guidance_scale=how.guidance,
                generator=[torch.Generator().manual_seed(one) for _, _, one in part],
                output_type="pt",
                **size,
            ).images
        drawn.append(torch.as_tensor(images).float().cpu())
    return torch.cat(drawn).unflatten(0, (len(rows.captions), 2 * how.seeds))


def images_at_once(images: torch.Tensor, how: Redrawing) -> int:
    """How many go through the denoiser together."""
    height, width = images.shape[2:]
    return max(1, min(CALL_IMAGES, how.call_pixels // (int(height) * int(width))))


def denoising_loss(
    base: ImageBase,
    noise: Noise,
    latents: torch.Tensor,
    *,
    captions: Captions,
    empty: Captions,
    seeds: Sequence[int],
    at_once: int = CALL_IMAGES,
) -> list[float]:
    """Each row's error in telling the noise, at five levels, with the caption and with none weighed as in redrawing.

    Args:
        latents: [rows, channels, height, width], with captions as many; `empty` is one row.
        seeds: of each row's noise.
        at_once: latents that go through the denoiser together at the most.
    """
    levels = torch.tensor(LEVELS * 2)
    losses = []
    for some in torch.arange(len(seeds)).split(max(1, at_once // len(levels))):
        shares = [_with_then_without(captions.rows(row[None]), empty) for row in some]
        drawn = [
            torch.randn(len(LEVELS), *latents.shape[1:], generator=torch.Generator().manual_seed(seeds[row]))
            for row in some.tolist()
        ]
        clean = latents[some].repeat_interleave(len(levels), dim=0)
        noises = torch.cat([each.repeat(2, 1, 1, 1) for each in drawn])
        texts, of_all = Captions.joined(shares), levels.repeat(len(some))
        with torch.inference_mode():
            errors = [
                denoising_errors(
                    base, noise, clean=clean[part], drawn=noises[part], levels=of_all[part], captions=texts.rows(part)
                )
                for part in torch.arange(len(clean)).split(at_once)
            ]
        for of_row in torch.cat(errors).double().split(len(levels)):
            with_caption, with_none = of_row[: len(LEVELS)].mean(), of_row[len(LEVELS) :].mean()
            losses.append(CAPTION_SHARE * float(with_caption) + EMPTY_SHARE * float(with_none))
    return losses


def _with_then_without(one: Captions, empty: Captions) -> Captions:
    """One caption for each level, then the empty one for each."""
    return Captions.joined([one, empty]).rows(torch.tensor([0] * len(LEVELS) + [1] * len(LEVELS)))


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
