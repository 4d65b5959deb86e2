"""A measured submission as its customer gets it: the miner's weights, and around them nothing but words of ours.

A miner's config names a base, a revision and libraries that loaders on the customer's machine would follow, and its README says what it
likes. So configs are written anew from what was measured, the index of a model in parts from the parts' own headers, and the card by us.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gradients.bases.bases import BaseInfo
from gradients.files.safetensors_header import read_header
from gradients.files.strict_json import strict_json
from gradients.repo.manifest import Manifest

ADAPTER_CONFIG, FULL_CONFIG, INDEX, CARD = (
    "adapter_config.json",
    "config.json",
    "model.safetensors.index.json",
    "README.md",
)
# Of an adapter's settings, those that measuring has read and checked.
_MEASURED = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out")


@dataclass(frozen=True, slots=True)
class Merit:
    """What a model was made for and how it did, for its card."""

    task_id: str
    task_type: str
    hotkey: str
    metric: str
    unit: str
    value: float | None
    base_value: float | None


def written_anew(folder: Path, manifest: Manifest, base: BaseInfo, merit: Merit) -> Mapping[str, bytes]:
    """The files of a delivered model that are not the miner's bytes, by name; `folder` holds the submission as it was measured."""
    files = {CARD: _card(manifest, base, merit).encode()}
    if ADAPTER_CONFIG in manifest.files:
        files[ADAPTER_CONFIG] = _adapter_config(folder, base)
    if FULL_CONFIG in manifest.files:
        files[FULL_CONFIG] = (base.folder / FULL_CONFIG).read_bytes()
    if INDEX in manifest.files:
        files[INDEX] = _index(folder, manifest)
    return files


def miners_own(manifest: Manifest) -> list[str]:
    """The names of the files that are delivered as the miner made them: its weights."""
    return sorted(name for name in manifest.files if name.endswith(".safetensors"))


def _adapter_config(folder: Path, base: BaseInfo) -> bytes:
    given = strict_json((folder / ADAPTER_CONFIG).read_bytes())
    assert isinstance(given, dict)  # noqa: S101 (it has been measured)
    tensors = read_header(folder / "adapter_model.safetensors")
    modules = {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in tensors}
    name, _, revision = base.name.partition("@")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": name,
        "revision": revision or None,
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
    places = {name: file for file in miners_own(manifest) for name in read_header(folder / file)}
    size = sum(manifest.files[file].size_bytes for file in miners_own(manifest))
    return _as_json({"metadata": {"total_size": size}, "weight_map": places})


def _card(manifest: Manifest, base: BaseInfo, merit: Merit) -> str:
    name, _, revision = base.name.partition("@")
    measured = {"this model": merit.value, "its base": merit.base_value}
    results = "".join(f"| {who} | {value:.6g} |\n" for who, value in measured.items() if value is not None)
    at_revision = f" at revision `{revision}`" if revision else ""
    return f"""---
base_model: {name}
library_name: {"diffusers" if base.family == "image" else "peft" if manifest.kind == "adapter" else "transformers"}
tags: [gradients, {merit.task_type}]
---

# {merit.task_id}

Fine-tuned from `{name}`{at_revision} (sha256 {base.digest[:16]}…) by the miner `{merit.hotkey}`,
in a Gradients task of type {merit.task_type}.

| held-out {merit.metric}, {merit.unit} | |
|---|---|
{results}
The weights are the miner's, as they were measured; everything beside them was written by the validator.
"""


def _as_json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode()
