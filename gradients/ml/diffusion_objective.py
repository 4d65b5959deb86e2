"""What a run on images makes smaller: the error of telling noise, at random levels, sometimes without the caption.

How many rows go through at once changes no step: all that chance decides of one is drawn before it is made in parts, and it is made anew
of the same numbers when memory runs out.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from gradients.ml.diffusion_errors import denoising_loss
from gradients.ml.diffusion_noise import denoising_errors, encode_images, noise_of
from gradients.ml.images import Captioned
from gradients.ml.micro_batches import Pictures
from gradients.ml.pipeline_families import Captions
from gradients.ml.pipelines import ImageBase

_ENCODED_AT_ONCE = 8  # captions


@dataclass(frozen=True, slots=True)
class DenoisingSettings:
    """How the objective draws and weighs."""

    snr_limit: float
    caption_dropout: float
    mirrored: bool  # whether half of the images are seen mirrored
    text_encoders: bool  # whether these train too, so that captions must be encoded anew in every step
    rows_at_once: int  # of one pass at the most; memory that runs out halves it


class _Drawn(NamedTuple):
    """What chance decides of a step, whatever parts it is made in: for each row, on the CPU."""

    rows: torch.Tensor
    sides: torch.Tensor  # 1: mirrored
    levels: torch.Tensor
    noise: torch.Tensor  # [rows, channels, height, width]
    is_captioned: torch.Tensor

    def part(self, places: torch.Tensor) -> _Drawn:
        """Of some of the rows."""
        return _Drawn(*(each[places] for each in self))


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
        self._pictures = Pictures(base.device, most=settings.rows_at_once)
        self._captions = train.captions
        self._latents = torch.stack([encode_images(base, side) for side in (train.images, train.images.flip(3))])
        self._encoded = None if settings.text_encoders else self._encode([*train.captions, ""])
        self._validation = validation
        self._kept = encode_images(base, validation.images) if validation else None
        self._generator = torch.Generator().manual_seed(seed)

    def backward(self, model: nn.Module, rows: Sequence[int]) -> float:
        drawn = self._draw(rows)

        def whole_step() -> float:
            total = 0.0
            for places in torch.arange(len(rows)).split(self._pictures.at_once):
                loss = self._summed_loss(drawn.part(places)) / len(rows)
                loss.backward()
                total += loss.item()
            return total

        return self._pictures.fitting(model, whole_step)

    def validate(self, model: nn.Module) -> float | None:
        if self._validation is None or self._kept is None:
            return None
        base, noise, kept = self._base, self._noise, self._kept
        captions, empty = self._encode(self._validation.captions), self._encode([""])
        seeds = range(len(self._validation.captions))

        def whole() -> list[float]:
            at_once = self._pictures.at_once
            return denoising_loss(base, noise, kept, captions=captions, empty=empty, seeds=seeds, at_once=at_once)

        return statistics.fmean(self._pictures.fitting(model, whole))

    def _draw(self, rows: Sequence[int]) -> _Drawn:
        """Drawn in this order: sides, levels, noise, and which captions are seen."""
        sides = torch.randint(2, (len(rows),), generator=self._generator) * self._settings.mirrored
        levels = self._noise.draw(len(rows), self._generator)
        noise = torch.randn(len(rows), *self._latents.shape[2:], generator=self._generator)
        is_captioned = torch.rand(len(rows), generator=self._generator) >= self._settings.caption_dropout
        return _Drawn(torch.tensor(rows), sides, levels, noise, is_captioned)

    def _summed_loss(self, drawn: _Drawn) -> torch.Tensor:
        place, levels = self._latents.device, drawn.levels
        clean = self._latents[drawn.sides.to(place), drawn.rows.to(place)]
        positions = torch.where(drawn.is_captioned, drawn.rows, len(self._captions))  # the empty one is the last
        if self._encoded is None:
            texts = [*self._captions, ""]
            captions = self._base.family.encode(self._base.pipeline, [texts[row] for row in positions.tolist()])
        else:
            captions = self._encoded.rows(positions.to(self._encoded.tokens.device))
        errors = denoising_errors(
            self._base, self._noise, clean=clean, drawn=drawn.noise, levels=levels, captions=captions
        )
        return (self._noise.weights(levels, self._settings.snr_limit).to(errors) * errors).sum()

    def _encode(self, captions: Sequence[str]) -> Captions:
        """A few at a time: some text encoders have ten times the weights of others."""
        with torch.no_grad():
            parts = [captions[start : start + _ENCODED_AT_ONCE] for start in range(0, len(captions), _ENCODED_AT_ONCE)]
            return Captions.joined([self._base.family.encode(self._base.pipeline, part) for part in parts])
