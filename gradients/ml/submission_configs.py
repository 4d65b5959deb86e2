"""The two configs that a miner may hand in, read as data: what of them counts, and what would make the model another one than we measure.

Covers: an adapter's settings, of which rank and scale count; a full model's config, compared with the base's by what both mean. Does not
cover: tensors. Nothing of a config is ever used to build a model.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gradients.errors import SubmissionRejected
from gradients.files.strict_json import strict_json

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ADAPTER_CONFIG = "adapter_config.json"
MAX_RANK = 256
_MAX_CONFIG_BYTES = 1024 * 1024
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.]{1,200}")
# Keys whose value changes nothing in what we compute: where the layers were looked for, and what the file notes. Which layers were
# changed stands in the tensors. Every other key that we don't read must be off.
_WITHOUT_EFFECT = {
    *("auto_mapping", "base_model_name_or_path", "inference_mode", "lora_dropout", "megatron_core", "peft_version"),
    *("qalora_group_size", "revision", "task_type", "fan_in_fan_out"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
}
# What of a model's config does not change what it computes: names, versions, precision, and what generation begins and ends with.
_COSMETIC = {
    *("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache", "model_type"),
    *(
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "decoder_start_token_id",
        "is_encoder_decoder",
        "_attn_implementation",
    ),
    *(
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "use_return_dict",
        "id2label",
        "label2id",
        "problem_type",
    ),
    *(
        "chunk_size_feed_forward",
        "tokenizer_class",
        "task_specific_params",
        "_commit_hash",
        "unsloth_version",
        "unsloth_fixed",
    ),
}

Pattern = Mapping[str, float]


class AdapterConfig(BaseModel):
    """What of an adapter_config.json counts: a plain LoRA."""

    model_config = ConfigDict(extra="allow", frozen=True)

    peft_type: Literal["LORA"]
    r: int = Field(ge=1, le=MAX_RANK)
    lora_alpha: float = Field(gt=0, le=1e4, allow_inf_nan=False)
    rank_pattern: dict[str, int] = Field(default_factory=dict, max_length=4096)
    alpha_pattern: dict[str, float] = Field(default_factory=dict, max_length=4096)
    use_rslora: bool = False
    bias: Literal["none"] = "none"
    # Other ways to start (PiSSA, OLoRA, ...) change the base where a customer loads the adapter, so it would not be what we measured.
    init_lora_weights: Literal[True, False, "gaussian", "orthogonal"] = True

    def rank_of(self, module: str) -> int:
        """The rank of a layer's factors."""
        return int(_value_for(module, self.rank_pattern, self.r))

    def scale_of(self, module: str) -> float:
        """What the product of a layer's factors is multiplied by."""
        rank, alpha = self.rank_of(module), _value_for(module, self.alpha_pattern, self.lora_alpha)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def read_adapter_config(path: Path) -> AdapterConfig:
    """The config of a plain LoRA. Raises SubmissionRejected for anything that would make the adapter more than that."""
    try:
        with path.open("rb") as file:
            config = AdapterConfig.model_validate_json(file.read(_MAX_CONFIG_BYTES))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise SubmissionRejected(
            f"{ADAPTER_CONFIG}: {where[:80]}: {first['msg']}", code="adapter_config_invalid"
        ) from error
    for key, value in (config.model_extra or {}).items():
        if value and key not in _WITHOUT_EFFECT:
            raise SubmissionRejected(
                f"{ADAPTER_CONFIG}: {key[:80]!r} is not supported",
                code="adapter_setting_refused",
                fix="Hand in a plain LoRA",
            )
    for name, pattern, most in (
        ("rank_pattern", config.rank_pattern, MAX_RANK),
        ("alpha_pattern", config.alpha_pattern, 1e4),
    ):
        if not all(_PLAIN_NAME.fullmatch(key) and 0 < value <= most for key, value in pattern.items()):
            raise SubmissionRejected(
                f"{ADAPTER_CONFIG}: {name} holds more than names of layers and numbers up to {most:g}",
                code="adapter_setting_refused",
                fix="Write the layers' names out",
            )
    return config


def check_same_model(file: Path, ours: PretrainedConfig) -> None:
    """Raises SubmissionRejected for a config that means another computation than the base's, however either of them is written.

    Args:
        file: a miner's config.json, which only the base's own config class reads.
        ours: the config of the loaded base.
    """
    try:
        with file.open("rb") as stream:
            given = strict_json(stream.read(_MAX_CONFIG_BYTES))
        if not isinstance(given, dict):
            raise ValueError("it is not an object")
        if given.get("model_type", ours.model_type) != ours.model_type:
            raise SubmissionRejected("config.json is of another architecture than the base", code="config_mismatch")
        theirs = type(ours).from_dict(given)
    except SubmissionRejected:
        raise
    except Exception as error:  # whatever a config class makes of what a stranger wrote
        said = " ".join(str(error).split())[:200]
        raise SubmissionRejected(f"config.json cannot be read as the base's: {said}", code="config_mismatch") from error
    meant, base = _meaning(theirs), _meaning(ours)
    for key in sorted(meant.keys() | base.keys()):
        if meant.get(key) != base.get(key):
            raise SubmissionRejected(f"config.json differs from the base's in {key[:80]!r}", code="config_mismatch")


def _meaning(config: PretrainedConfig) -> dict[str, Any]:  # Any: JSON
    """Every setting that plays a part in what is computed, with the defaults of the class filled in; nothing for what is off."""
    return _computing(json.loads(json.dumps(config.to_dict(), default=str)))


def _computing(settings: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    """What of settings plays a part, at any depth: some are configs of parts."""
    inner = {key: _computing(value) if isinstance(value, dict) else value for key, value in settings.items()}
    return {key: value for key, value in inner.items() if key not in _COSMETIC and value not in (None, {}, [])}


def _value_for(module: str, pattern: Pattern, default: float) -> float:
    """As peft takes it: the first name that the layer's name ends with."""
    return next((value for name, value in pattern.items() if module == name or module.endswith(f".{name}")), default)
