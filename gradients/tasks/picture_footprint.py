"""What training a LoRA on a pipeline of images takes of memory, from its denoiser's config: weights, adapter, what pictures keep. Pure.

Bytes that blocks keep for the backward pass were measured on real layers of diffusers at the widths of SD 1.5, SDXL, SD3 and Flux with our
own LoRA on all of them, under the precisions that CUDA's autocast gives (tests/ml/test_picture_footprints.py counts them again). A block of
convolutions keeps 18 bytes a pixel for each channel that goes in and 10 for each that comes out, in float32 as well; a layer of
transformers 57 to 73 a token and number of its state, and half as much again in float32. What a backward pass holds beside that is a third
of its largest block. Of whole denoisers at full size one more picture was counted to take 1.41, 9.02, 8.49 and 42.4 GiB (SD 1.5 at 512
pixels, SDXL, SD3-medium and Flux at 1,024), and 0.35, 0.99, 0.87 and 2.86 where blocks are computed again; what is reckoned is 3 % less to
18 % more.

Covers: what lies there while the denoiser learns; text encoders and autoencoder with their weights. Does not cover: text encoders that
train, and denoisers other than the UNet of SD and SDXL and the transformers of SD3 and Flux: `pipeline_in` knows no shape of these.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gradients.tasks.footprint import (
    GIB,
    GPU_SIZES,
    NARROW_ABOVE,
    NARROW_BYTES,
    USABLE,
    WIDE_BYTES,
    Footprint,
    Shape,
    Way,
    shape_in,
)

PIXEL_IN_BYTES, PIXEL_OUT_BYTES = 18.0, 10.0  # kept by a block of convolutions, a pixel and channel
ATTENTION_BYTES, JOINT_BYTES, SINGLE_BYTES = 73.0, 63.0, 57.0  # by a layer of transformers, a token and number
AROUND_BYTES = 15.0  # by the norm and projections around a UNet's transformers, which are not computed again
WIDE_MORE = 1.55  # times as much in float32, of transformers
ENTERED_BYTES = 2.2  # of what goes into a block that is computed again
LARGEST_MORE = 1.33  # times what the largest block keeps is there while it is gone back through
# A weight of the adapter: itself, gradient, two moments and a running average in float32, a copy in bfloat16.
LORA_BYTES = 22
ENCODING_BYTES = 2_600  # a pixel: pictures go through the autoencoder one by one before training, no gradients asked
UNETS = ("UNet2DConditionModel",)
JOINT = {"SD3Transformer2DModel": 333, "FluxTransformer2DModel": 512}  # tokens of text
TIME_FEATURES = 4  # times a UNet's first channels


class Block(NamedTuple):
    """A part of a denoiser that is computed again as a whole, or not at all."""

    kept: float  # bytes of one picture
    entered: float  # of these, what goes into it
    sides: int  # inputs and outputs of its layers, of convolutions times the kernel: weights of a LoRA of rank 1


@dataclass(frozen=True, slots=True)
class Unet:
    """A denoiser of convolutions with transformers between them."""

    channels: tuple[int, ...]  # of each level, the widest pictures first
    resnets: int  # of a level on the way down; one more on the way up
    layers: tuple[int, ...]  # of a level's transformers; 0 where it has none
    context: int  # numbers of a token of text

    def blocks(self, side: int, *, wide: bool) -> Iterator[Block]:
        """Of latents with so many numbers a side."""
        sides = [max(side >> level, 1) for level in range(len(self.channels))]
        before, skipped = self.channels[0], [self.channels[0]]
        for level, after in enumerate(self.channels):
            for _ in range(self.resnets):
                yield from self._pair(sides[level], before, after, self.layers[level], wide=wide)
                before = after
                skipped.append(after)
            if level < len(self.channels) - 1:
                yield self._resampled(sides[level + 1], after)
                skipped.append(after)
        yield from self._pair(sides[-1], before, before, self.layers[-1], wide=wide)
        yield self._resnet(sides[-1], before, before)
        for level in reversed(range(len(self.channels))):
            for _ in range(self.resnets + 1):
                after = self.channels[level]
                yield from self._pair(sides[level], before + skipped.pop(), after, self.layers[level], wide=wide)
                before = after
            if level:
                yield self._resampled(sides[level - 1], before)

    def _pair(self, side: int, before: int, after: int, layers: int, *, wide: bool) -> Iterator[Block]:
        """Convolutions, and the transformer behind them."""
        yield self._resnet(side, before, after)
        if layers:
            numbers = side**2 * after
            more = WIDE_MORE if wide else 1.0
            yield Block(AROUND_BYTES * numbers, AROUND_BYTES * numbers, 4 * after)
            for _ in range(layers):
                layer = 28 * after + 2 * self.context
                yield Block(more * ATTENTION_BYTES * numbers, ENTERED_BYTES * numbers, layer)

    def _resnet(self, side: int, before: int, after: int) -> Block:
        kept = side**2 * (PIXEL_IN_BYTES * before + PIXEL_OUT_BYTES * after)
        shortcut = before + after if before != after else 0
        sides = 9 * before + 12 * after + shortcut + TIME_FEATURES * self.channels[0]
        return Block(kept, side**2 * ENTERED_BYTES * before, sides)

    def _resampled(self, side: int, width: int) -> Block:
        numbers = side**2 * width
        return Block(2 * ENTERED_BYTES * numbers, 2 * ENTERED_BYTES * numbers, 10 * width)


@dataclass(frozen=True, slots=True)
class Joint:
    """A denoiser of transformers that read patches of pictures and texts together."""

    layers: int  # with weights of their own for texts
    single_layers: int  # with the same weights for both
    width: int
    texts: int  # tokens

    def blocks(self, side: int, *, wide: bool) -> Iterator[Block]:
        """Of latents with so many numbers a side, of which a token has two by two."""
        numbers = ((side // 2) ** 2 + self.texts) * self.width
        more = WIDE_MORE if wide else 1.0
        for _ in range(self.layers):
            yield Block(more * JOINT_BYTES * numbers, ENTERED_BYTES * numbers, 50 * self.width)
        for _ in range(self.single_layers):
            yield Block(more * SINGLE_BYTES * numbers, ENTERED_BYTES * numbers, 21 * self.width)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A text-to-image model's size."""

    parameters: int  # of all its networks
    learning: int  # of its denoiser
    denoiser: Unet | Joint
    pixels: int  # a side of the pictures that it was made for
    scale: int = 8  # pixels to a number of its latents, a side


SD15 = Pipeline(1_066_235_307, 859_520_964, Unet((320, 640, 1280, 1280), 2, (1, 1, 1, 0), 768), 512)
SDXL = Pipeline(3_468_811_199, 2_567_463_684, Unet((320, 640, 1280), 2, (0, 2, 10), 2_048), 1_024)
SD3_MEDIUM = Pipeline(7_690_000_000, 2_028_328_000, Joint(24, 0, 1_536, 333), 1_024)
FLUX = Pipeline(16_870_000_000, 11_901_408_320, Joint(19, 38, 3_072, 512), 1_024)  # by their published configs


Size = Shape | Pipeline


def size_in(folder: Path, parameters: int) -> Size:
    """Of the base in a folder, as far as its files tell it."""
    return pipeline_in(folder, parameters) or shape_in(folder, parameters)


def pipeline_in(folder: Path, parameters: int) -> Pipeline | None:
    """The size of the pipeline in a folder; None where its files don't tell of a denoiser that is known here."""
    for name in ("unet", "transformer"):
        try:
            config = json.loads((folder / name / "config.json").read_text(encoding="utf-8"))
            coder = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
            denoiser, latent_side = _denoiser(config)
            scale = 2 ** (len(coder["block_out_channels"]) - 1)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
        stored = {file: file.stat().st_size for file in folder.glob("*/*.safetensors")}
        own = sum(size for file, size in stored.items() if file.parent.name == name)
        learning = parameters * own // max(sum(stored.values()), 1)
        return Pipeline(parameters, learning, denoiser, latent_side * scale, scale)
    return None


def _denoiser(config: Mapping[str, Any]) -> tuple[Unet | Joint, int]:
    """By its config.json, with the side of the latents that it was made for. Raises LookupError, ValueError or TypeError."""
    name = config["_class_name"]
    if name in JOINT:
        width = int(config["num_attention_heads"]) * int(config["attention_head_dim"])
        singles = int(config.get("num_single_layers", 0))
        return Joint(int(config["num_layers"]), singles, width, JOINT[name]), int(config.get("sample_size", 128))
    if name not in UNETS:
        raise ValueError(name)
    channels, depths = config["block_out_channels"], config.get("transformer_layers_per_block", 1)
    depths = [depths] * len(channels) if isinstance(depths, int) else depths
    attends = ["CrossAttn" in each for each in config["down_block_types"]]
    layers = tuple(int(depth) * has for depth, has in zip(depths, attends, strict=True))
    unet = Unet(tuple(map(int, channels)), int(config["layers_per_block"]), layers, int(config["cross_attention_dim"]))
    return unet, int(config["sample_size"])


def smallest_gpu_for(pipeline: Pipeline, *, pixels: int | None) -> int | None:
    """GiB of the smallest GPU that trains a LoRA of rank 32, one picture at once and blocks computed again; None: no single one."""
    way = Way("lora", 32, checkpointing=True)
    for size in GPU_SIZES:
        taken = picture_footprint(pipeline, way, gpu_bytes=size * GIB, pixels=pixels)
        if taken.total(1) <= USABLE * size * GIB:
            return size
    return None


def picture_footprint(shape: Pipeline, way: Way, *, gpu_bytes: int | None, pixels: int | None = None) -> Footprint:
    """What training a LoRA takes; a picture is a footprint's token.

    Args:
        gpu_bytes: of a GPU; None trains on the CPU.
        pixels: a side of the pictures; None: as the pipeline was made for.
    """
    on_gpu, side = gpu_bytes is not None, pixels or shape.pixels
    narrow = gpu_bytes is not None and shape.parameters > NARROW_ABOVE * gpu_bytes
    blocks = list(shape.denoiser.blocks(side // shape.scale, wide=not on_gpu))
    again = way.checkpointing
    kept = sum(block.entered if again else block.kept for block in blocks)
    largest = LARGEST_MORE * max(block.kept for block in blocks) if again else 0.0
    copied = NARROW_BYTES * shape.learning if on_gpu and not narrow else 0
    encoding = ENCODING_BYTES * side**2 / (2 if narrow else 1)
    return Footprint(
        weights=(NARROW_BYTES if narrow else WIDE_BYTES) * shape.parameters,
        trained=LORA_BYTES * way.rank * sum(block.sides for block in blocks),
        copies=copied // (8 if again else 1) + int(max(encoding - kept - largest, 0)),
        per_token=kept,
        fixed_layer=largest,
        logits_per_token=0.0,
    )
