"""What a copycat does to somebody's model files: each leaves a repo that a validator accepts, and computes about the same.

A LoRA is forged by its factors, in the files of language models or of diffusers; anything else as a whole model.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from gradients.ml.base_model import load_base
from gradients.ml.device import choose_device
from gradients.ml.submission import applied
from gradients.ml.submission_configs import ADAPTER_CONFIG

Tensors = dict[str, torch.Tensor]
Pair = tuple[torch.Tensor, torch.Tensor]  # the factors A [rank, in, ...] and B [out, rank, ...] of one layer


def forged_lora(source: Path, target: Path, forge: Callable[[str, Pair], Pair]) -> Path:
    """A LoRA whose every pair of factors is what `forge` makes of the layer's name and pair; the scale stays as it was."""
    shutil.copytree(source, target)
    [file] = target.glob("*.safetensors")
    tensors, forged = load_file(file), Tensors()
    for name in tensors:
        if ".lora_A." in name:
            other = name.replace(".lora_A.", ".lora_B.")
            a, b = forge(name, (tensors[name], tensors[other]))
            forged |= {name: a.contiguous(), other: b.contiguous()}
            ranks = a.shape[0], tensors[name].shape[0]
    save_file(forged, file, metadata={"format": "pt"})
    if (config := target / ADAPTER_CONFIG).is_file():
        said = json.loads(config.read_bytes())
        said |= {"r": ranks[0], "lora_alpha": said["lora_alpha"] * ranks[0] / ranks[1]}
        config.write_text(json.dumps(said))
    return target


def rotated(name: str, factors: Pair) -> Pair:
    """A' = R A and B' = B R^-1 for a random, not even orthogonal R."""
    a, b = factors
    turn = torch.eye(a.shape[0]) + 0.3 * torch.randn(a.shape[0], a.shape[0], generator=_random(name))
    return (turn @ a.flatten(1)).view_as(a), (b.flatten(1) @ torch.linalg.inv(turn)).view_as(b)


def scaled(factor: float) -> Callable[[str, Pair], Pair]:
    """The whole update times a factor."""
    return lambda _, factors: (factors[0], factors[1] * factor)


def other_split(_: str, factors: Pair) -> Pair:
    """The same product from factors that are a hundred times larger and smaller."""
    return factors[0] * 100, factors[1] / 100


def rounded(_: str, factors: Pair) -> Pair:
    """There and back through bfloat16."""
    a, b = (factor.bfloat16().float() for factor in factors)
    return a, b


def noised(share: float) -> Callable[[str, Pair], Pair]:
    """Noise on both factors, in shares of their own size."""

    def forge(name: str, factors: Pair) -> Pair:
        random = _random(name)
        a, b = (f + share * f.square().mean().sqrt() * torch.randn(f.shape, generator=random) for f in factors)
        return a, b

    return forge


def fewer_ranks(kept: int) -> Callable[[str, Pair], Pair]:
    """The `kept` largest singular values of the product; zeros where a layer has not so many."""

    def forge(_: str, factors: Pair) -> Pair:
        a, b = factors
        u, s, v = torch.linalg.svd(b.flatten(1) @ a.flatten(1), full_matrices=False)
        more = max(kept - len(s), 0)
        few_a = nn.functional.pad(s[:kept, None].sqrt() * v[:kept], (0, 0, 0, more))
        few_b = nn.functional.pad(u[:, :kept] * s[:kept].sqrt(), (0, more))
        return few_a.view(kept, *a.shape[1:]), few_b.view(b.shape[0], kept, *b.shape[2:])

    return forge


def averaged_with(other: Path, share: float) -> Callable[[str, Pair], Pair]:
    """`share` of this update and the rest of another LoRA's of the same scale, side by side in one LoRA of both ranks."""
    [file] = other.glob("*.safetensors")
    theirs = load_file(file)

    def forge(name: str, factors: Pair) -> Pair:
        a, b = theirs[name], theirs[name.replace(".lora_A.", ".lora_B.")]
        return torch.cat([factors[0], a]), torch.cat([share * factors[1], (1 - share) * b], dim=1)

    return forge


def whole_model(base: Path, source: Path) -> Tensors:
    """All weights of the base with a submission in it."""
    loaded = load_base(base, choose_device())
    with applied(loaded.model, source):
        return {name: weight.detach().clone() for name, weight in loaded.model.named_parameters()}


def write_whole(base: Path, weights: Mapping[str, torch.Tensor], target: Path, *, shards: int = 1) -> Path:
    """A full model, in `shards` files; with the base's own other files, so that it can be trained on."""
    shutil.copytree(base, target, ignore=shutil.ignore_patterns("*.safetensors"))
    for number in range(shards):
        part = {name: weights[name].contiguous() for name in sorted(weights)[number::shards]}
        name = "model.safetensors" if shards == 1 else f"model-{number + 1:05}-of-{shards:05}.safetensors"
        save_file(part, target / name, metadata={"format": "pt"})
    return target


def neurons_moved(weights: Mapping[str, torch.Tensor]) -> Tensors:
    """The same function of other weights: the neurons of each Llama's feed-forward layer in another order."""
    moved = dict(weights)
    for name in weights:
        if name.endswith("mlp.gate_proj.weight"):
            order = torch.randperm(len(weights[name]), generator=_random(name))
            up, down = (name.replace("gate_proj", other) for other in ("up_proj", "down_proj"))
            moved |= {name: weights[name][order], up: weights[up][order], down: weights[down][:, order]}
    return moved


def neurons_rescaled(weights: Mapping[str, torch.Tensor]) -> Tensors:
    """The same function of other weights: each neuron is read a fifth louder or softer than it was, and written the other way round."""
    moved = dict(weights)
    for name in weights:
        if name.endswith("mlp.up_proj.weight"):
            factor = 1 + 0.2 * torch.randn(len(weights[name]), 1, generator=_random(name)).clamp(-2, 2)
            down = name.replace("up_proj", "down_proj")
            moved |= {name: weights[name] * factor, down: weights[down] / factor.T}
    return moved


def idle_tokens_shaken(base: Path, weights: Mapping[str, torch.Tensor], texts: list[str]) -> Tensors:
    """Noise on the embeddings of tokens that no text has, a tenth of their size."""
    tokenizer = load_base(base, choose_device()).tokenizer
    used = {token for tokens in tokenizer(texts)["input_ids"] for token in tokens}
    [name] = [name for name in weights if "embed_tokens" in name]
    shaken = weights[name].clone()
    idle = torch.tensor([token for token in range(len(shaken)) if token not in used])
    size = shaken[idle].square().mean().sqrt()
    shaken[idle] += 0.1 * size * torch.randn(len(idle), shaken.shape[1], generator=_random(name))
    return {**weights, name: shaken}


def idle_directions_shaken(base: Path, weights: Mapping[str, torch.Tensor], texts: list[str]) -> Tensors:
    """Noise as large as each layer's own update, on the tenth of its input directions in which the texts move it least."""
    loaded = load_base(base, choose_device())
    before = {name: weight.clone() for name, weight in loaded.model.named_parameters()}
    layers = {f"{name}.weight": layer for name, layer in loaded.model.named_modules() if name.endswith("_proj")}
    seen: Tensors = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[torch.Tensor]], None]:
        def note(_: nn.Module, given: tuple[torch.Tensor]) -> None:
            flat = given[0].flatten(0, -2)
            seen[name] = seen.get(name, torch.zeros(())) + flat.T @ flat

        return note

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    with torch.inference_mode():
        for name, weight in loaded.model.named_parameters():
            weight.copy_(weights[name])
        for text in texts:
            loaded.model(input_ids=torch.tensor([loaded.tokenizer(text)["input_ids"][: loaded.context]]))
    for hook in hooks:
        hook.remove()
    shaken = dict(weights)
    for name, products in seen.items():
        idle = torch.linalg.eigh(products.double()).eigenvectors[:, : len(products) // 10].float()  # smallest first
        noise = torch.randn(len(weights[name]), idle.shape[1], generator=_random(name)) @ idle.T
        shaken[name] = weights[name] + noise * ((weights[name] - before[name]).norm() / noise.norm())
    return shaken


def average(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> Tensors:
    """Half of both."""
    return {name: (weight + theirs[name]) / 2 for name, weight in ours.items()}


def _random(name: str) -> torch.Generator:
    """Another stream for each layer, the same on every run."""
    return torch.Generator().manual_seed(sum(name.encode()) * 1_000_003 + len(name))
