"""A base out of an old one and a submission: what a task goes on from that continues another.

Covers: only the weights that the submission changes are written anew, by the reader that measured them; config, tokenizer and whatever
else decides what the model computes are the old base's files, byte by byte. Weights are rounded once, to the precision in which the old
base is stored.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn
from transformers import GenerationConfig

from gradients.ml.base_model import load_base
from gradients.ml.device import Device
from gradients.ml.diffusion_lora import WEIGHTS, lora_weights
from gradients.ml.merging import SHARD_SIZE
from gradients.ml.pipelines import load_image_base
from gradients.ml.submission import change_for_good, weights_in

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")


def write_language_base(base_folder: Path, submission: Path, target: Path) -> None:
    """Leave the new base in `target`, an empty folder. Takes four bytes of memory for each weight, and two for each that changes.

    Raises ModelUnknown for a base that cannot be read, and SubmissionRejected for a submission that was never measured.
    """
    base = load_base(base_folder, Device("cpu"))
    change_for_good(base.model, weights_in(submission, base.model))
    base.model.generation_config = GenerationConfig()  # some published ones are refused when they are written anew
    base.model.to(base.stored_dtype).save_pretrained(target, max_shard_size=SHARD_SIZE)
    _keep_weights(target)
    _copy_others(base_folder, target)


def write_image_base(base_folder: Path, submission: Path, target: Path) -> None:
    """As `write_language_base`, of a pipeline: networks that the submission leaves alone are the old base's files."""
    base = load_image_base(base_folder, Device("cpu"))
    parts = base.parts()
    changed = {name.partition(".")[0] for name in change_for_good(parts, lora_weights(parts, submission / WEIGHTS))}
    for name in sorted(changed):
        _write_part(parts[name], base_folder / name, target / name)
    for folder in (base_folder, *(each for each in base_folder.iterdir() if each.is_dir())):
        into = target / folder.relative_to(base_folder)
        into.mkdir(exist_ok=True)
        if folder.name in changed and folder != base_folder:
            _copy_others(folder, into)
        else:
            _copy(folder, into)


def _write_part(part: nn.Module, old: Path, new: Path) -> None:
    first = min(old.glob("*.safetensors"))
    with safe_open(first, framework="pt") as tensors:
        stored: torch.dtype = tensors.get_tensor(next(iter(tensors.keys()))).dtype
    part.to(stored).save_pretrained(new, safe_serialization=True)
    _keep_weights(new)


def _keep_weights(folder: Path) -> None:
    weights = {file for pattern in _WEIGHTS for file in folder.glob(pattern)}
    for file in folder.iterdir():
        if file not in weights:
            file.unlink()


def _copy_others(old: Path, new: Path) -> None:
    """All of a folder's files but weights."""
    weights = {file for pattern in _WEIGHTS for file in old.glob(pattern)}
    _copy(old, new, but=frozenset(weights))


def _copy(old: Path, new: Path, *, but: frozenset[Path] = frozenset()) -> None:
    for file in old.iterdir():
        if file.is_file() and file not in but and not file.name.startswith("."):
            shutil.copyfile(file, new / file.name)
