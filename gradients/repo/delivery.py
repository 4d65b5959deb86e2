"""A measured submission as its customer gets it: the miner's weights, and around them nothing but words of ours.

A miner's config names a base, a revision and libraries that loaders on the customer's machine would follow, and its README says what it
likes. So configs are written anew from what was measured, the index of a model in parts from the parts' own headers, and the card by us;
tokenizer, chat template and generation settings are the base's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gradients.bases.bases import BaseInfo, hub_source
from gradients.files.safetensors_header import read_header
from gradients.files.strict_json import strict_json
from gradients.repo.card import Merit, model_card
from gradients.repo.manifest import Manifest, RepoFile

ADAPTER_CONFIG, FULL_CONFIG, INDEX, CARD = (
    "adapter_config.json",
    "config.json",
    "model.safetensors.index.json",
    "README.md",
)
# What of a language model stands beside its weights and decides how text goes in and comes out.
TEXT_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt"),
    *("chat_template.jinja", "chat_template.json", "generation_config.json"),
)
# Of an adapter's settings, those that measuring has read and checked.
_MEASURED = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A model as its customer gets it: every file by name, in three parts that don't overlap."""

    weights: Mapping[str, RepoFile]  # the miner's, as they were measured
    written: Mapping[str, bytes]  # by us
    of_base: Mapping[str, Path]  # the base's own: tokenizer, chat template, generation settings


def delivery(folder: Path, manifest: Manifest, base: BaseInfo, merit: Merit) -> Delivery:
    """What is delivered of the submission that `folder` holds as it was measured."""
    written = {CARD: model_card(manifest, base, merit).encode()}
    if ADAPTER_CONFIG in manifest.files:
        written[ADAPTER_CONFIG] = _adapter_config(folder, base)
    if FULL_CONFIG in manifest.files:
        written[FULL_CONFIG] = (base.folder / FULL_CONFIG).read_bytes()
    if INDEX in manifest.files:
        written[INDEX] = _index(folder, manifest)
    return Delivery(
        weights={name: manifest.files[name] for name in _weights(manifest)},
        written=written,
        of_base={name: base.folder / name for name in TEXT_FILES if (base.folder / name).is_file()},
    )


def _weights(manifest: Manifest) -> list[str]:
    return sorted(name for name in manifest.files if name.endswith(".safetensors"))


def _adapter_config(folder: Path, base: BaseInfo) -> bytes:
    given = strict_json((folder / ADAPTER_CONFIG).read_bytes())
    assert isinstance(given, dict)  # noqa: S101 (it has been measured)
    tensors = read_header(folder / "adapter_model.safetensors")
    modules = {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in tensors}
    on_hub = hub_source(base)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": on_hub.repo if on_hub else base.name,
        "revision": on_hub.revision if on_hub else None,
        **{key: given[key] for key in _MEASURED if key in given},
        # Lists with usual names in them peft takes for the fused weights of experts, where a base has some; a pattern is taken as it is.
        "target_modules": "|".join(map(re.escape, sorted(modules))) if _has_experts(base) else sorted(modules),
        "bias": "none",
        "lora_dropout": 0.0,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    return _as_json(config)


def _has_experts(base: BaseInfo) -> bool:
    return b"experts" in (base.folder / FULL_CONFIG).read_bytes()


def _index(folder: Path, manifest: Manifest) -> bytes:
    places = {name: file for file in _weights(manifest) for name in read_header(folder / file)}
    size = sum(manifest.files[file].size_bytes for file in _weights(manifest))
    return _as_json({"metadata": {"total_size": size}, "weight_map": places})


def _as_json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode()
