"""What differs between the families of text-to-image pipelines: how captions are encoded, how the denoiser is called, what it predicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import torch

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


class Captions(NamedTuple):
    """Encoded captions, one a row."""

    tokens: torch.Tensor  # [rows, tokens, width]
    pooled: torch.Tensor | None = None  # [rows, width]

    def rows(self, positions: torch.Tensor) -> Captions:
        """The captions at these positions."""
        return Captions(self.tokens[positions], None if self.pooled is None else self.pooled[positions])

    @classmethod
    def joined(cls, parts: Sequence[Captions]) -> Self:
        """All of them, one part after another."""
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return cls(torch.cat([part.tokens for part in parts]), torch.cat(pooled) if pooled else None)


Denoise = Callable[["DiffusionPipeline", torch.Tensor, torch.Tensor, Captions], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Family:
    """One family.

    Attributes:
        encode: captions by the pipeline's own text encoders.
        denoise: the prediction [rows, channels, height, width] for noisy latents at timesteps [rows].
        noise: "variance" adds it by a schedule of variances, "flow" on a straight line.
        guidance: how strongly captions steer where nobody says it.
        sized: whether the image-to-image pipeline must be told the image's size.
    """

    name: str
    pipeline: str
    denoiser: Literal["unet", "transformer"]
    text_encoders: tuple[str, ...]
    noise: Literal["variance", "flow"]
    guidance: float
    sized: bool
    encode: Callable[[DiffusionPipeline, Sequence[str]], Captions]
    denoise: Denoise

    def image_to_image(self) -> type[DiffusionPipeline]:
        """diffusers' class that redraws images."""
        import diffusers

        found: type[DiffusionPipeline] = getattr(diffusers, self.pipeline.replace("Pipeline", "Img2ImgPipeline"))
        return found

    def text_to_image(self) -> type[DiffusionPipeline]:
        """diffusers' class that draws from nothing."""
        import diffusers

        found: type[DiffusionPipeline] = getattr(diffusers, self.pipeline)
        return found


def _encode_sd(pipeline: DiffusionPipeline, captions: Sequence[str]) -> Captions:
    return Captions(pipeline.encode_prompt(list(captions), pipeline.device, 1, do_classifier_free_guidance=False)[0])


def _encode_sdxl(pipeline: DiffusionPipeline, captions: Sequence[str]) -> Captions:
    tokens, _, pooled, _ = pipeline.encode_prompt(list(captions), do_classifier_free_guidance=False)
    return Captions(tokens, pooled)


def _encode_sd3(pipeline: DiffusionPipeline, captions: Sequence[str]) -> Captions:
    tokens, _, pooled, _ = pipeline.encode_prompt(list(captions), None, None, do_classifier_free_guidance=False)
    return Captions(tokens, pooled)


def _encode_flux(pipeline: DiffusionPipeline, captions: Sequence[str]) -> Captions:
    tokens, pooled, _ = pipeline.encode_prompt(list(captions))
    return Captions(tokens, pooled)


def _denoise_sd(
    pipeline: DiffusionPipeline, noisy: torch.Tensor, timesteps: torch.Tensor, captions: Captions
) -> torch.Tensor:
    return _tensor(pipeline.unet(noisy, timesteps, captions.tokens).sample)


def _denoise_sdxl(
    pipeline: DiffusionPipeline, noisy: torch.Tensor, timesteps: torch.Tensor, captions: Captions
) -> torch.Tensor:
    height, width = (side * pipeline.vae_scale_factor for side in noisy.shape[-2:])
    sizes = [height, width, 0, 0, height, width]  # as it was, cropped from where, as it is wanted
    added = {"text_embeds": captions.pooled, "time_ids": noisy.new_tensor([sizes] * len(noisy))}
    return _tensor(pipeline.unet(noisy, timesteps, captions.tokens, added_cond_kwargs=added).sample)


def _denoise_sd3(
    pipeline: DiffusionPipeline, noisy: torch.Tensor, timesteps: torch.Tensor, captions: Captions
) -> torch.Tensor:
    predicted = pipeline.transformer(
        hidden_states=noisy,
        timestep=timesteps,
        encoder_hidden_states=captions.tokens,
        pooled_projections=captions.pooled,
    )
    return _tensor(predicted.sample)


def _denoise_flux(
    pipeline: DiffusionPipeline, noisy: torch.Tensor, timesteps: torch.Tensor, captions: Captions
) -> torch.Tensor:
    """Latents go in as a sequence of 2 x 2 patches with their positions."""
    rows, channels, height, width = noisy.shape
    transformer, scale = pipeline.transformer, pipeline.vae_scale_factor
    predicted = transformer(
        hidden_states=pipeline._pack_latents(noisy, rows, channels, height, width),
        timestep=timesteps / 1000,
        guidance=noisy.new_ones(rows) if transformer.config.guidance_embeds else None,
        encoder_hidden_states=captions.tokens,
        pooled_projections=captions.pooled,
        txt_ids=noisy.new_zeros(captions.tokens.shape[1], 3),
        img_ids=pipeline._prepare_latent_image_ids(rows, height // 2, width // 2, noisy.device, noisy.dtype),
    ).sample
    return _tensor(pipeline._unpack_latents(predicted, height * scale, width * scale, scale))


def _tensor(value: object) -> torch.Tensor:
    """What diffusers, which has no types, gave."""
    assert isinstance(value, torch.Tensor)  # noqa: S101 (for the type checker)
    return value


_FAMILIES = (
    Family(
        name="sd",
        pipeline="StableDiffusionPipeline",
        denoiser="unet",
        text_encoders=("text_encoder",),
        noise="variance",
        guidance=7.5,
        sized=False,
        encode=_encode_sd,
        denoise=_denoise_sd,
    ),
    Family(
        name="sdxl",
        pipeline="StableDiffusionXLPipeline",
        denoiser="unet",
        text_encoders=("text_encoder", "text_encoder_2"),
        noise="variance",
        guidance=8.0,
        sized=False,
        encode=_encode_sdxl,
        denoise=_denoise_sdxl,
    ),
    Family(
        name="sd3",
        pipeline="StableDiffusion3Pipeline",
        denoiser="transformer",
        text_encoders=("text_encoder", "text_encoder_2"),
        noise="flow",
        guidance=7.0,
        sized=True,
        encode=_encode_sd3,
        denoise=_denoise_sd3,
    ),
    Family(
        name="flux",
        pipeline="FluxPipeline",
        denoiser="transformer",
        text_encoders=("text_encoder",),
        noise="flow",
        guidance=3.5,
        sized=True,
        encode=_encode_flux,
        denoise=_denoise_flux,
    ),
)
FAMILIES: Mapping[str, Family] = {family.pipeline: family for family in _FAMILIES}
