"""What a run on images makes smaller: the error of telling noise, at random levels, sometimes without the caption."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from gradients.ml.diffusion_errors import denoising_loss
from gradients.ml.diffusion_noise import denoising_errors, encode_images, noise_of
from gradients.ml.images import Captioned
from gradients.ml.pipeline_families import Captions
from gradients.ml.pipelines import ImageBase


@dataclass(frozen=True, slots=True)
class DenoisingSettings:
    """How the objective draws and weighs."""

    snr_limit: float
    caption_dropout: float
    mirrored: bool  # whether half of the images are seen mirrored
    text_encoders: bool  # whether these train too, so that captions must be encoded anew in every step
    rows_at_once: int


class DenoisingObjective:
    """Weighted error of the denoiser over train rows; on rows kept from training, the loss that is noted beside the metric."""

    def __init__(
        self,
        base: ImageBase,
        *,
        train: Captioned,
        validation: Captioned | None,
        settings: DenoisingSettings,
        seed: int,
    ) -> None:
        self.lengths = [1] * len(train.captions)
        self._base, self._settings, self._noise = base, settings, noise_of(base)
        self._captions = train.captions
        self._latents = torch.stack([encode_images(base, side) for side in (train.images, train.images.flip(3))])
        self._encoded = None if settings.text_encoders else self._encode([*train.captions, ""])
        self._validation = validation
        self._kept = encode_images(base, validation.images) if validation else None
        self._generator = torch.Generator().manual_seed(seed)

    def backward(self, model: nn.Module, rows: Sequence[int]) -> float:
        total = 0.0
        for start in range(0, len(rows), self._settings.rows_at_once):
            loss = self._summed_loss(rows[start : start + self._settings.rows_at_once]) / len(rows)
            loss.backward()
            total += loss.item()
        return total

    def validate(self, model: nn.Module) -> float | None:
        if self._validation is None or self._kept is None:
            return None
        captions, empty = self._encode(self._validation.captions), self._encode([""])
        seeds = range(len(self._validation.captions))
        losses = denoising_loss(self._base, self._noise, self._kept, captions=captions, empty=empty, seeds=seeds)
        return statistics.fmean(losses)

    def _summed_loss(self, rows: Sequence[int]) -> torch.Tensor:
        """Drawn in this order: sides, levels, noise, and which captions are seen."""
        sides = torch.randint(2, (len(rows),), generator=self._generator) * self._settings.mirrored
        clean = self._latents[sides.to(self._latents.device), torch.tensor(rows, device=self._latents.device)]
        levels = self._noise.draw(len(rows), self._generator)
        drawn = torch.randn(clean.shape, generator=self._generator)
        kept = torch.rand(len(rows), generator=self._generator) >= self._settings.caption_dropout
        if self._encoded is None:
            texts = [self._captions[row] if keep else "" for row, keep in zip(rows, kept.tolist(), strict=True)]
            captions = self._base.family.encode(self._base.pipeline, texts)
        else:
            positions = torch.where(kept, torch.tensor(rows), len(self._captions))  # the empty one is the last
            captions = self._encoded.rows(positions.to(self._encoded.tokens.device))
        errors = denoising_errors(self._base, self._noise, clean=clean, drawn=drawn, levels=levels, captions=captions)
        return (self._noise.weights(levels, self._settings.snr_limit).to(errors) * errors).sum()

    def _encode(self, captions: Sequence[str]) -> Captions:
        with torch.no_grad():
            return self._base.family.encode(self._base.pipeline, captions)
