"""What a repo may be, checked before a byte is fetched and again before a worker opens it.

Covers: names, kinds, number and sizes of files; headers; JSON that means one thing. Nothing that could be code is allowed in the first
place. The worker that puts the weights into our base checks the rest: what configs mean, every tensor's name, shape and values.
"""

from __future__ import annotations

import re
from pathlib import Path

from gradients.bases.bases import BaseInfo
from gradients.errors import ModelUnknown, SubmissionRejected
from gradients.files.safetensors_header import read_header
from gradients.files.strict_json import strict_json
from gradients.repo.manifest import Manifest

MAX_JSON_BYTES = 1_000_000
MAX_ADAPTER_SHARE = 0.5  # of the base's bytes in float32; rank 256 of a small base comes near it
SMALL_REPO_BYTES = 64_000_000  # adapters of tiny bases may be larger than the base
MAX_FULL_SHARE = 1.05
ALWAYS_ALLOWED = frozenset({"README.md", "training.json"})
ADAPTER_FILES = frozenset({"adapter_config.json", "adapter_model.safetensors"})
IMAGE_ADAPTER_FILES = frozenset(
    {"pytorch_lora_weights.safetensors"}
)  # diffusers' format: rank and scale are in the tensors
FULL_FILE = re.compile(
    r"config\.json|model\.safetensors|model-\d{5}-of-\d{5}\.safetensors|model\.safetensors\.index\.json"
)


def screen_manifest(manifest: Manifest, base: BaseInfo) -> None:
    """Raises SubmissionRejected for a repo that is not worth fetching."""
    adapter = manifest.kind == "adapter"
    parts = IMAGE_ADAPTER_FILES if base.family == "image" else ADAPTER_FILES
    for name, file in manifest.files.items():
        own = name in parts if adapter else FULL_FILE.fullmatch(name) is not None
        if not own and name not in ALWAYS_ALLOWED:
            raise SubmissionRejected(f"A repo of kind {manifest.kind} cannot hold {name}", code="file_not_allowed")
        if name.endswith((".json", ".md")) and file.size_bytes > MAX_JSON_BYTES:
            raise SubmissionRejected(f"{name} has {file.size_bytes:,} bytes", code="file_too_large")
    names = manifest.files.keys()
    if not adapter and base.family == "image":
        raise SubmissionRejected("Of an image model only adapters are taken", code="repo_kind")
    if adapter and not names >= parts:
        raise SubmissionRejected(f"An adapter consists of {' and '.join(sorted(parts))}", code="file_missing")
    if not adapter and not ("config.json" in names and any(name.endswith(".safetensors") for name in names)):
        raise SubmissionRejected("A full model consists of config.json and *.safetensors", code="file_missing")
    budget = byte_budget(manifest, base)
    if manifest.size_bytes > budget:
        raise SubmissionRejected(
            f"The repo has {manifest.size_bytes:,} bytes; at most {budget:,} are fetched", code="repo_too_large"
        )


def byte_budget(manifest: Manifest, base: BaseInfo) -> int:
    """How large the repo may be: in float32, whatever the precision of the base on disk."""
    whole = 4 * base.parameters
    share = MAX_FULL_SHARE if manifest.kind == "full" else MAX_ADAPTER_SHARE
    return max(SMALL_REPO_BYTES, round(whole * share)) + MAX_JSON_BYTES * len(manifest.files)


def screen_folder(folder: Path, manifest: Manifest, base: BaseInfo) -> None:
    """Raises SubmissionRejected for files that a worker should not even open, and ModelUnknown for a base that no repo can be like."""
    for name in manifest.files:
        if name.endswith(".safetensors"):
            read_header(folder / name)
        elif name.endswith(".json"):
            _read_json(folder / name)
    if manifest.kind == "full":
        theirs = _read_json(folder / "config.json").get("model_type")
        try:
            ours = _read_json(base.folder / "config.json").get("model_type")
        except SubmissionRejected as error:  # no miner has anything to do with a base
            raise ModelUnknown(f"The base {base.name} cannot be used: {error.message}") from error
        if theirs != ours:
            raise SubmissionRejected("config.json is of another architecture than the base", code="config_mismatch")


def _read_json(file: Path) -> dict[str, object]:
    try:
        data = strict_json(file.read_bytes())
    except FileNotFoundError as error:
        raise SubmissionRejected(f"The repo has no {file.name}", code="file_missing") from error
    except ValueError as error:
        raise SubmissionRejected(f"{file.name} is not valid JSON: {error}", code="json_invalid") from error
    if not isinstance(data, dict):
        raise SubmissionRejected(f"{file.name} is not a JSON object", code="json_invalid")
    return data
