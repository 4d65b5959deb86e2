"""How noise is put on latents, and what the denoiser's error counts.

A noise level is a number between 0 (clean) and 1 (nothing but noise), whatever the family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from gradients.errors import ModelUnknown
from gradients.ml.pipeline_families import Captions
from gradients.ml.pipelines import ImageBase

PREDICTIONS = ("epsilon", "v_prediction")


class Noise(Protocol):
    """One family's way from clean latents to noise."""

    def draw(self, rows: int, generator: torch.Generator) -> torch.Tensor:
        """Levels [rows] to train at."""
        ...

    def timesteps(self, levels: torch.Tensor) -> torch.Tensor:
        """The denoiser's name for the levels."""
        ...

    def noisy(self, clean: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """Latents at the levels."""
        ...

    def target(self, clean: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """What the denoiser should say about them."""
        ...

    def weights(self, levels: torch.Tensor, snr_limit: float) -> torch.Tensor:
        """What an error at each level counts in training, by min-SNR where that applies."""
        ...


@dataclass(frozen=True, slots=True)
class VarianceNoise:
    """A schedule of variances: SD 1.5, SDXL.

    `alphas` is the cumulative product [timesteps] of the base's own scheduler.
    """

    alphas: torch.Tensor
    prediction: str  # of PREDICTIONS

    def draw(self, rows: int, generator: torch.Generator) -> torch.Tensor:
        return torch.rand(rows, generator=generator)

    def timesteps(self, levels: torch.Tensor) -> torch.Tensor:
        return (levels * len(self.alphas)).long().clamp(max=len(self.alphas) - 1)

    def noisy(self, clean: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        signal, spread = self._factors(levels)
        return signal * clean + spread * noise

    def target(self, clean: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        if self.prediction == "epsilon":
            return noise
        signal, spread = self._factors(levels)
        return signal * noise - spread * clean

    def weights(self, levels: torch.Tensor, snr_limit: float) -> torch.Tensor:
        """min(SNR, limit) over what the error is measured in (Hang et al. 2023, arXiv 2303.09556)."""
        alphas = self.alphas[self.timesteps(levels)]
        snr = alphas / (1 - alphas)
        if self.prediction == "epsilon":
            return (snr_limit / snr).clamp(max=1)  # the same, and 1 where nothing of the image is left
        return snr.clamp(max=snr_limit) / (snr + 1)

    def _factors(self, levels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        alphas = self.alphas[self.timesteps(levels)].view(-1, 1, 1, 1)
        return alphas.sqrt(), (1 - alphas).sqrt()


class FlowNoise:
    """A straight line to noise: SD3, Flux (rectified flow). Levels are drawn as SD3 draws them (arXiv 2403.03206, eq. 19)."""

    def draw(self, rows: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(rows, generator=generator).sigmoid()

    def timesteps(self, levels: torch.Tensor) -> torch.Tensor:
        return levels * 1000

    def noisy(self, clean: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        share = levels.view(-1, 1, 1, 1).to(clean)
        return (1 - share) * clean + share * noise

    def target(self, clean: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        return noise - clean

    def weights(self, levels: torch.Tensor, snr_limit: float) -> torch.Tensor:
        """All the same: the levels' distribution is the weighting."""
        return torch.ones_like(levels)


def noise_of(base: ImageBase) -> Noise:
    """The base's own way to noise. Raises ModelUnknown for one that is not among ours."""
    if base.family.noise == "flow":
        return FlowNoise()
    scheduler = base.pipeline.scheduler
    if scheduler.config.prediction_type not in PREDICTIONS:
        raise ModelUnknown(
            f"{base.folder} predicts '{scheduler.config.prediction_type}'",
            fix=f"Use a base that predicts one of {', '.join(PREDICTIONS)}",
        )
    return VarianceNoise(scheduler.alphas_cumprod.float().cpu(), str(scheduler.config.prediction_type))


def encode_images(base: ImageBase, images: torch.Tensor) -> torch.Tensor:
    """Latents [rows, channels, height, width] of images [rows, 3, height, width] from 0 to 1, scaled as the denoiser knows them."""
    autoencoder = base.pipeline.vae
    shift = getattr(autoencoder.config, "shift_factor", None) or 0.0
    with torch.no_grad():
        pixels = (2 * images - 1).to(base.device.name, autoencoder.dtype)
        modes = [
            autoencoder.encode(row).latent_dist.mode() for row in pixels.split(1)
        ]  # alone, so no row changes another
    return (torch.cat(modes) - shift) * float(autoencoder.config.scaling_factor)


def prediction(
    base: ImageBase, noise: Noise, *, noisy: torch.Tensor, levels: torch.Tensor, captions: Captions
) -> torch.Tensor:
    """What the denoiser says about latents [rows, channels, height, width] at levels [rows], differentiable, float32."""
    with base.device.precision():
        return base.family.denoise(base.pipeline, noisy, noise.timesteps(levels).to(noisy.device), captions).float()


def denoising_errors(
    base: ImageBase,
    noise: Noise,
    *,
    clean: torch.Tensor,
    drawn: torch.Tensor,
    levels: torch.Tensor,
    captions: Captions,
) -> torch.Tensor:
    """Mean squared error [rows] of the denoiser's prediction, differentiable.

    Args:
        clean: latents [rows, channels, height, width].
        drawn: standard normal numbers of the same shape.
        levels: [rows], on the CPU.
    """
    device, dtype = clean.device, clean.dtype
    noisy = noise.noisy(clean.cpu(), drawn.cpu(), levels).to(device, dtype)
    target = noise.target(clean.cpu(), drawn.cpu(), levels).to(device, torch.float32)
    predicted = prediction(base, noise, noisy=noisy, levels=levels, captions=captions)
    return (predicted - target).square().mean(dim=(1, 2, 3))
