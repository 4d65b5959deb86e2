"""What training a base takes of memory, from its shape: weights, gradients, moments, what the backward pass needs, and logits. Pure.

Bytes that a layer keeps for the backward pass were measured with `torch.autograd.graph.saved_tensors_hooks` on layers of Mistral-7B,
Qwen2.5-7B and TinyLlama with our own LoRA, loss and bfloat16 products: 221, 243 and 98 kB a token, which 25.5 bytes a number of the
hidden state and 8.1 a number of the feed-forward one give within 2 %; a base that lies in bfloat16 or in 4 bits keeps as much a token
and no copies of its weights, a full fine-tune 12 % more (a Llama layer of width 1,024). On a CPU everything is float32, taken as twice
that. A GPU is taken to multiply in bfloat16. Does not cover: pipelines of images (picture_footprint.py), and pieces that nobody can use.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gradients.tasks.base import TrainingLoad

Method = Literal["lora", "full"]
Optimiser = Literal["adamw", "adamw_8bit"]
HIDDEN_BYTES, FEED_FORWARD_BYTES = 25.5, 8.1  # kept a token and layer, for each number of the state
CHECKPOINT_BYTES = 4  # for each number of the hidden state, of a layer that is computed again
LOGIT_BYTES = 14  # a token and entry of the vocabulary: logits, their gradient, and what the loss keeps
FULL_MORE = 1.12  # of these, where all weights train
LORA_BYTES = 18  # a weight of the adapter: itself, its gradient and two moments in float32, a copy in bfloat16
FOUR_BIT_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)  # a weight, its share of a scale of 8 bits, and of that scale's own
EIGHT_BIT_MOMENTS_BYTES = 2 * (1 + 4 / 256)  # two of a byte, and a scale for 256 of them
EXPERTS = (
    "num_experts",
    "num_local_experts",
    "n_routed_experts",
)  # whose matrices are one tensor, which stays unquantised
WIDE_BYTES, NARROW_BYTES = 4, 2
# A GPU keeps weights in 2 bytes instead of 4 when there are more of them than this share of its bytes.
NARROW_ABOVE = 0.1
USABLE = 0.92  # of the memory: the rest is the driver's or the system's, and lost between blocks
GPU_SIZES = (8, 12, 16, 24, 48, 80, 141, 180)  # GiB, as sold
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Shape:
    """A language model's size."""

    parameters: int
    layers: int
    hidden: int
    feed_forward: int
    vocabulary: int
    has_experts: bool = False
    context: int | None = None  # tokens that it reads at most, where that is known

    @classmethod
    def of(cls, config: Mapping[str, Any], parameters: int) -> Shape:
        """By its config.json; what that does not say is taken from models of its size."""
        told = config.get("text_config") or config
        like = like_others(parameters)

        def first(*names: str, otherwise: int) -> int:
            return next((int(told[name]) for name in names if isinstance(told.get(name), int)), otherwise)

        hidden = first("hidden_size", "n_embd", "d_model", otherwise=like.hidden)
        return cls(
            parameters,
            layers=first("num_hidden_layers", "n_layer", otherwise=like.layers),
            hidden=hidden,
            feed_forward=first("intermediate_size", "n_inner", "ffn_dim", otherwise=4 * hidden),
            vocabulary=first("vocab_size", otherwise=like.vocabulary),
            has_experts=any(told.get(name) for name in EXPERTS),
            context=first("max_position_embeddings", "n_positions", otherwise=0) or None,
        )

    @property
    def looked_up(self) -> int:
        """Weights of embeddings and head, which may be one."""
        return min(2 * self.vocabulary * self.hidden, self.parameters)

    @property
    def multiplied(self) -> int:
        """Weights of all layers."""
        return self.parameters - self.looked_up


KNOWN = (
    Shape(2_000_000, layers=4, hidden=160, feed_forward=448, vocabulary=2_048),
    Shape(134_515_008, layers=30, hidden=576, feed_forward=1_536, vocabulary=49_152),
    Shape(494_032_768, layers=24, hidden=896, feed_forward=4_864, vocabulary=151_936),
    Shape(1_543_714_304, layers=28, hidden=1_536, feed_forward=8_960, vocabulary=151_936),
    Shape(3_212_749_824, layers=28, hidden=3_072, feed_forward=8_192, vocabulary=128_256),
    Shape(7_248_023_552, layers=32, hidden=4_096, feed_forward=14_336, vocabulary=32_768),
    Shape(14_770_033_664, layers=48, hidden=5_120, feed_forward=13_824, vocabulary=152_064),
    Shape(32_763_876_352, layers=64, hidden=5_120, feed_forward=27_648, vocabulary=152_064),
    Shape(70_553_706_496, layers=80, hidden=8_192, feed_forward=28_672, vocabulary=128_256),
)  # SmolLM2, Qwen2.5, Llama-3 and Mistral, by their published configs


def like_others(parameters: int) -> Shape:
    """So many parameters in the shape of the known model that is nearest in size."""
    nearest = min(KNOWN, key=lambda shape: abs(math.log(shape.parameters / max(parameters, 1))))
    return replace(nearest, parameters=parameters)


@dataclass(frozen=True, slots=True)
class Way:
    """How a base is trained, as far as memory depends on it."""

    method: Method
    rank: int  # of a LoRA on all linear layers
    checkpointing: bool = False  # whether layers are computed again
    load_in_4bit: bool = False
    optimiser: Optimiser = "adamw"
    devices: int = 1  # over which weights, gradients and moments are spread (FSDP)

    @property
    def spreads(self) -> bool:
        """Whether it can be: what bitsandbytes packs is not cut into parts."""
        return not self.load_in_4bit and self.optimiser == "adamw"


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that training takes: always, and for each token of a micro-batch."""

    weights: int
    trained: int  # gradients and moments; of a LoRA its weights too
    copies: int  # of weights in the precision of their products: kept for the backward pass, gathered or unpacked
    per_token: float
    fixed_layer: float  # a token's bytes in the one layer that is computed again; none without checkpointing
    logits_per_token: float
    reference: int = 0  # a copy of the base as it was

    def total(self, tokens: int) -> int:
        """With a micro-batch of so many tokens."""
        return int(self.standing + tokens * self.by_token)

    @property
    def standing(self) -> int:
        """What there is before any token."""
        return self.weights + self.trained + self.copies + self.reference

    @property
    def by_token(self) -> float:
        """Bytes of one more token."""
        return self.per_token + self.fixed_layer + self.logits_per_token


def weight_bytes(shape: Shape, *, gpu_bytes: int | None) -> int:
    """Of a number as the device keeps weights that train, as gradients/ml/device.py chooses."""
    return NARROW_BYTES if gpu_bytes is not None and shape.parameters > NARROW_ABOVE * gpu_bytes else WIDE_BYTES


def shape_in(folder: Path, parameters: int) -> Shape:
    """The shape of a base in a folder; of models of its size where it has no config of a language model."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return like_others(parameters)
    return Shape.of(config, parameters) if isinstance(config, dict) else like_others(parameters)


def smallest_gpu(shape: Shape, method: Method, load: TrainingLoad) -> int | None:
    """GiB of the smallest GPU that a base can be trained on, with layers computed again and a LoRA of rank 32; None: on no single one.

    One that would keep all weights in 2 bytes does not train them: small steps would be rounded away.
    """
    way = Way(method, 32, checkpointing=True)
    for size in GPU_SIZES:
        there = size * GIB
        narrow = weight_bytes(shape, gpu_bytes=there) == NARROW_BYTES
        taken = footprint(shape, way, gpu_bytes=there, logits=load.logits, reference=load.reference)
        if taken.total(load.tokens) <= USABLE * there and not (narrow and method == "full"):
            return size
    return None


def footprint(
    shape: Shape, way: Way, *, gpu_bytes: int | None, logits: float = 1.0, reference: bool = False
) -> Footprint:
    """What training takes, of each device.

    Args:
        gpu_bytes: of a GPU; None trains on the CPU.
        logits, reference: of the type's load (gradients/tasks/base.py).
    """
    on_gpu = gpu_bytes is not None
    product = NARROW_BYTES if on_gpu else WIDE_BYTES
    layer = (HIDDEN_BYTES * shape.hidden + FEED_FORWARD_BYTES * shape.feed_forward) * (1 if on_gpu else 2)
    layer *= FULL_MORE if way.method == "full" else 1
    width = weight_bytes(shape, gpu_bytes=gpu_bytes)
    if way.devices > 1:
        weights, trained, copies = _spread(shape, way, product=product)
    else:
        weights, trained, copies = _whole(shape, way, width=width, product=product)
    return Footprint(
        weights=weights,
        trained=trained,
        copies=copies,
        per_token=shape.layers * (CHECKPOINT_BYTES * shape.hidden if way.checkpointing else layer),
        fixed_layer=layer if way.checkpointing else 0.0,
        logits_per_token=logits * LOGIT_BYTES * shape.vocabulary,
        reference=width * shape.parameters if reference and way.method == "full" else 0,
    )


def _whole(shape: Shape, way: Way, *, width: int, product: int) -> tuple[int, int, int]:
    """Weights, what trains, and copies on one device; `width` and `product` are bytes of a weight and of a number in products.

    A frozen base's layers lie as they are multiplied (gradients/ml/precision.py). Weights in 4 bits are unpacked a matrix at a time.
    """
    if way.method == "full":
        moments = EIGHT_BIT_MOMENTS_BYTES if way.optimiser == "adamw_8bit" else 2 * width
        copies = product * shape.multiplied if product < width else 0
        return width * shape.parameters, int((width + moments) * shape.parameters), copies
    adapter = LORA_BYTES * way.rank * _sides(shape)
    if way.load_in_4bit:
        weights = FOUR_BIT_BYTES * shape.multiplied + product * shape.looked_up
        return int(weights), adapter, product * shape.hidden * max(shape.feed_forward, shape.hidden)
    head = product * shape.vocabulary * shape.hidden if product < width else 0
    return product * shape.multiplied + width * shape.looked_up, adapter, head


def _spread(shape: Shape, way: Way, *, product: int) -> tuple[int, int, int]:
    """As `_whole` for each of several devices: its part, and what is gathered at a time.

    Gathered are two layers, one of them in advance, and embeddings and head; of a full fine-tune also the gradients of the largest of
    these. Weights that train are kept in 4 bytes, frozen ones as they are multiplied.
    """
    layer = shape.multiplied // shape.layers
    gathered = product * (2 * layer + shape.looked_up)
    if way.method == "lora":
        weights, trained = product * shape.parameters, LORA_BYTES * way.rank * _sides(shape)
    else:
        weights, trained = WIDE_BYTES * shape.parameters, 3 * WIDE_BYTES * shape.parameters
        gathered += WIDE_BYTES * max(layer, shape.looked_up)
    return weights // way.devices, trained // way.devices, gathered


def _sides(shape: Shape) -> int:
    """Inputs and outputs of all linear layers, together."""
    return shape.layers * (8 * shape.hidden + 3 * (shape.hidden + shape.feed_forward))
