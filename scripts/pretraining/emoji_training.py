"""Training the small text-to-image model: first the autoencoder, then denoising of its latents with captions.

Time is the process' own CPU time, so a busy machine takes longer and leaves the same model.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from gradients.files.whole import write_file
from scripts.pretraining.emoji import Pixels
from scripts.pretraining.emoji_model import ImageModel, noise_schedule

_POINTS = 12  # measurements of a phase
_SNR_LIMIT = 5.0  # min-SNR weighting: Hang et al. 2023, arXiv 2303.09556


@dataclass(frozen=True, slots=True)
class ImageRecipe:
    """How the two phases train; learning rates are the peaks."""

    seed: int = 0
    autoencoder_minutes: float = 4.0
    denoising_minutes: float = 20.0
    batch: int = 24
    autoencoder_lr: float = 3e-3
    denoising_lr: float = 1.5e-3
    warmup: float = 0.02
    kl_weight: float = 1e-5
    caption_dropout: float = 0.15
    average_decay: float = 0.997


class ImagePoint(TypedDict):
    """One measurement: held-out loss of what the phase trains."""

    phase: str
    step: int
    seconds: float
    train_loss: float
    held_out_loss: float


@dataclass(slots=True)
class ImageRun:
    """What is kept beside the weights."""

    history: list[ImagePoint] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Captioned:
    """Images with their captions as tokens."""

    images: torch.Tensor  # [images, 3, pixels, pixels], -1 to 1
    tokens: torch.Tensor  # [images, tokens]


def captioned(pixels: Pixels, captions: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> Captioned:
    """Arrays as tensors."""
    images = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    return Captioned(images, caption_tokens(captions, tokenizer))


def caption_tokens(captions: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """[captions, tokens]"""
    tokens: torch.Tensor = tokenizer(
        list(captions), padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    return tokens


def train_autoencoder(
    model: ImageModel, train: Captioned, held_out: Captioned, *, recipe: ImageRecipe, run: ImageRun
) -> None:
    """Train the autoencoder in place and set its scaling factor, so that latents have a deviation of 1."""
    network = model.autoencoder

    def loss(rows: torch.Tensor) -> torch.Tensor:
        images = train.images[rows]
        if int(rows[0]) % 2:
            images = images.flip(3)
        posterior = network.encode(images).latent_dist
        decoded = network.decode(posterior.sample()).sample
        return functional.l1_loss(decoded, images) + recipe.kl_weight * posterior.kl().mean()

    def measured() -> float:
        decoded = network.decode(network.encode(held_out.images).latent_dist.mode()).sample
        return float(functional.mse_loss(decoded, held_out.images))

    _descend([network], loss, measured, phase="autoencoder", rows=len(train.images), recipe=recipe, run=run)
    with torch.no_grad():
        network.register_to_config(scaling_factor=1 / float(_latents(model, train.images).std()))


def train_denoiser(
    model: ImageModel, train: Captioned, held_out: Captioned, *, recipe: ImageRecipe, run: ImageRun, empty: torch.Tensor
) -> None:
    """Train UNet and text encoder in place; what is left in them is the running average of their weights.

    Args:
        empty: tokens of the empty caption [1, tokens].
    """
    scale, schedule = model.autoencoder.config.scaling_factor, noise_schedule()
    with torch.no_grad():
        stores = [_latents(model, images) * scale for images in (train.images, train.images.flip(3))]
        held_latents = _latents(model, held_out.images) * scale
    latents = torch.stack(stores)
    alphas = schedule.alphas_cumprod

    def denoising_loss(
        clean: torch.Tensor, tokens: torch.Tensor, steps: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        context = model.text_encoder(tokens).last_hidden_state
        target = schedule.get_velocity(clean, noise, steps)
        predicted = model.unet(schedule.add_noise(clean, noise, steps), steps, context).sample
        snr = alphas[steps] / (1 - alphas[steps])
        weights = snr.clamp(max=_SNR_LIMIT) / (snr + 1)
        return (weights * (predicted - target).square().mean(dim=(1, 2, 3))).mean()

    def loss(rows: torch.Tensor) -> torch.Tensor:
        sides = torch.randint(2, rows.shape)
        clean = latents[sides, rows]
        dropped = torch.rand(len(rows)) < recipe.caption_dropout
        tokens = torch.where(dropped[:, None], empty, train.tokens[rows])
        steps = torch.randint(len(alphas), rows.shape)
        return denoising_loss(clean, tokens, steps, torch.randn_like(clean))

    def measured() -> float:
        noise = torch.randn(held_latents.shape, generator=torch.Generator().manual_seed(0))
        steps = torch.arange(len(held_latents)) * 997 % len(alphas)
        return float(denoising_loss(held_latents, held_out.tokens, steps, noise))

    networks = [model.unet, model.text_encoder]
    _descend(networks, loss, measured, phase="denoising", rows=len(train.images), recipe=recipe, run=run)


def _latents(model: ImageModel, images: torch.Tensor) -> torch.Tensor:
    return torch.cat([model.autoencoder.encode(part).latent_dist.mode() for part in images.split(64)])


def _descend(
    networks: Sequence[torch.nn.Module],
    loss: Callable[[torch.Tensor], torch.Tensor],
    measured: Callable[[], float],
    *,
    phase: str,
    rows: int,
    recipe: ImageRecipe,
    run: ImageRun,
) -> None:
    """AdamW until the phase's time is over, its rate falling to zero; leaves the average of the weights."""
    seconds = 60 * (recipe.autoencoder_minutes if phase == "autoencoder" else recipe.denoising_minutes)
    peak = recipe.autoencoder_lr if phase == "autoencoder" else recipe.denoising_lr
    parameters = [parameter for network in networks for parameter in network.parameters()]
    average = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.99), weight_decay=0.01)
    torch.manual_seed(recipe.seed)
    began, recent = time.process_time(), list[float]()
    for step, batch in enumerate(_batches(rows, recipe.batch, seed=recipe.seed)):
        done = min(1.0, (time.process_time() - began) / seconds)
        optimizer.param_groups[0]["lr"] = peak * min(1.0, done / recipe.warmup) * (1 - done)
        recent.append(_step(optimizer, parameters, loss(batch)))
        decay = min(recipe.average_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(average, [parameter.detach() for parameter in parameters], 1 - decay)
        if done >= 1 or done * _POINTS >= 1 + sum(point["phase"] == phase for point in run.history):
            spent = time.process_time() - began
            kept = [parameter.detach().clone() for parameter in parameters]
            _copy(average, parameters)  # what is measured is what will be left
            with torch.no_grad():
                held_out_loss = measured()
            _copy(kept, parameters)
            point = ImagePoint(
                phase=phase,
                step=step + 1,
                seconds=round(spent, 1),
                train_loss=round(sum(recent) / len(recent), 4),
                held_out_loss=round(held_out_loss, 4),
            )
            run.history.append(point)
            print(json.dumps(point), flush=True)
            recent = []
        if done >= 1:
            break
    _copy(average, parameters)


def _step(optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor], loss: torch.Tensor) -> float:
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    value = float(loss.item())
    if not math.isfinite(value):
        raise FloatingPointError("the training loss is not finite; lower the learning rates")
    return value


def _batches(rows: int, batch: int, *, seed: int) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(rows, generator=generator)[: rows - rows % batch].split(batch)


def _copy(source: Sequence[torch.Tensor], target: Sequence[torch.Tensor]) -> None:
    with torch.no_grad():
        for one, other in zip(source, target, strict=True):
            other.copy_(one)


def save_image_model(path: Path, model: ImageModel, run: ImageRun) -> None:
    """Write the weights and the record to one file, whole or not at all."""
    tensors = {
        f"{part}.{name}": tensor.detach().clone().contiguous()
        for part, network in model.parts().items()
        for name, tensor in network.named_parameters()
    }
    header = {"history": json.dumps(run.history), "scaling": str(model.autoencoder.config.scaling_factor)}
    write_file(path, lambda part: save_file(tensors, part, metadata=header))


def load_image_model(path: Path, model: ImageModel) -> ImageRun:
    """Put saved weights into `model`; its record."""
    with safe_open(path, framework="pt") as file, torch.no_grad():
        for part, network in model.parts().items():
            for name, parameter in network.named_parameters():
                parameter.copy_(file.get_tensor(f"{part}.{name}"))
        header = file.metadata()
    model.autoencoder.register_to_config(scaling_factor=float(header["scaling"]))
    return ImageRun(json.loads(header["history"]))
