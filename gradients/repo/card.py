"""The model card of a delivered model: what it was made of, how it did, and the lines that load it. Every word of it is ours.

Covers: names of bases, tasks and miners, which intake and the chain have checked before; numbers that were measured here. Does not cover:
what the customer's data says, none of which is in the card.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gradients.bases.bases import BaseInfo, Family, hub_source
from gradients.bases.licence import licence_of
from gradients.domain.evaluation import Metric
from gradients.repo.manifest import Manifest

STANDARD_ERRORS_95 = 1.96  # half of a 95 % interval of a mean, in its standard errors
_CODE = re.compile(r"```python\n.*?\n```", re.DOTALL)
_DRAW = 'image = pipeline("a lighthouse").images[0]'
BASE_FOLDER = "base"  # beside the model, where its base can be had from no hub


class Result(NamedTuple):
    """A mean over the held-out rows and its standard error."""

    value: float
    stderr: float


@dataclass(frozen=True, slots=True)
class Merit:
    """What a model was made for and how it did, for its card."""

    task_id: str
    task_type: str
    hotkey: str
    metric: Metric
    hours: float  # training budget of each miner
    train_rows: int
    held_out_rows: int
    ours: Result | None  # None: not measured
    base: Result | None
    before: tuple[str, ...] = ()  # of a task that goes on from others: the first base, and their ids, oldest first


def model_card(manifest: Manifest, base: BaseInfo, merit: Merit) -> str:
    """README.md, as model hubs read it."""
    on_hub = hub_source(base)
    fields = {
        "base_model": on_hub.repo if on_hub else None,
        "base_model_relation": ("adapter" if manifest.kind == "adapter" else "finetune") if on_hub else None,
        "library_name": _library(manifest, base),
        "license": licence_of(base.folder),  # which a fine-tune of it stands under
        "pipeline_tag": "text-to-image" if base.family == "image" else "text-generation",
        "tags": f"[gradients, {merit.task_type}{', lora' if manifest.kind == 'adapter' else ''}]",
    }
    front = "".join(f"{name}: {value}\n" for name, value in fields.items() if value is not None)
    revision = f" at revision `{on_hub.revision}`" if on_hub and on_hub.revision else ""
    licence = fields["license"] or "not known; see the base's own card"
    return f"""---
{front}---

# {merit.task_id}, by {merit.hotkey}

Fine-tuned from `{on_hub.repo if on_hub else base.name}`{revision} (sha256 of its files: `{base.digest}`) by the miner
`{merit.hotkey}`, in a Gradients task of type {merit.task_type}.{_lineage(merit)}

| held-out {merit.metric.name}, {merit.metric.unit}, {merit.metric.better} is better | mean | 95 % interval |
|---|---|---|
{_row("this model", merit.ours)}{_row("its base", merit.base)}
- Rows: {merit.train_rows:,} to train on, {merit.held_out_rows:,} held out, which no miner has seen.
- Training budget: {merit.hours:g} hours.
- Licence of the base: {licence}.

## Use

```python
{loading(manifest, base)}
```

The weights are the miner's, as they were measured. Tokenizer, chat template and generation settings are the base's; everything else was
written by the validator.
"""


def merged_card(card: str, folder: Path, family: Family) -> str:
    """The card of a delivered adapter as that of the whole model which was made of it, in `folder`."""
    whole = whole_model_lines(family, with_template=has_chat_template(folder))
    told = _CODE.sub(lambda _: f"```python\n{whole}\n```", card, count=1)
    for old, new in (
        ("base_model_relation: adapter\n", "base_model_relation: finetune\n"),
        ("library_name: peft\n", "library_name: transformers\n"),
        (", lora]\n", "]\n"),
        ("The weights are the miner's, as they were measured.", "The weights are the miner's, merged with the base's."),
    ):
        told = told.replace(old, new, 1)
    return told


def loading(manifest: Manifest, base: BaseInfo) -> str:
    """The lines that load the model with everybody's tools, from the folder that they are run in."""
    if manifest.kind == "full":
        return whole_model_lines(base.family, with_template=has_chat_template(base.folder))
    on_hub = hub_source(base)
    if base.family == "image":
        revision = f', revision="{on_hub.revision}"' if on_hub and on_hub.revision else ""
        return f"""import torch
from diffusers import DiffusionPipeline

base = "{on_hub.repo if on_hub else BASE_FOLDER}"
pipeline = DiffusionPipeline.from_pretrained(base{revision}, torch_dtype=torch.float32)
pipeline.load_lora_weights(".", weight_name="pytorch_lora_weights.safetensors")
{_DRAW}"""
    if on_hub:
        imports = "from peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer"
        load = 'AutoPeftModelForCausalLM.from_pretrained(".", dtype="auto")'
    else:
        imports = "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer"
        load = f'PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{BASE_FOLDER}", dtype="auto"), ".")'
    return _asking(imports, load, with_template=has_chat_template(base.folder))


def whole_model_lines(family: Family, *, with_template: bool) -> str:
    """As `loading`, of a model that needs no base."""
    if family == "image":
        return f"""import torch
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained(".", torch_dtype=torch.float32)
{_DRAW}"""
    imports = "from transformers import AutoModelForCausalLM, AutoTokenizer"
    return _asking(imports, 'AutoModelForCausalLM.from_pretrained(".", dtype="auto")', with_template=with_template)


def _asking(imports: str, load: str, *, with_template: bool) -> str:
    # Without a template a prompt is a line, and its answer begins on the next one.
    asked = (
        'tokenizer.apply_chat_template(\n    [{"role": "user", "content": "Hello"}], '
        'add_generation_prompt=True, return_tensors="pt", return_dict=True\n)'
        if with_template
        else 'tokenizer("Hello\\n", return_tensors="pt")'
    )
    return f"""{imports}

tokenizer = AutoTokenizer.from_pretrained(".")
model = {load}
inputs = {asked}
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0], skip_special_tokens=True))"""


def has_chat_template(folder: Path) -> bool:
    """Whether a language model's tokenizer brings a chat template."""
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and b'"chat_template"' in config.read_bytes()


def _library(manifest: Manifest, base: BaseInfo) -> str:
    if base.family == "image":
        return "diffusers"
    return "peft" if manifest.kind == "adapter" else "transformers"


def _lineage(merit: Merit) -> str:
    """Where the base comes from that is another task's model."""
    if not merit.before:
        return ""
    first, *tasks = (f"`{name}`" for name in merit.before)
    return f" That base is the best model of a task before it, merged with its own base: {' → '.join([first, *tasks])}."


def _row(who: str, result: Result | None) -> str:
    if result is None:
        return ""
    half = STANDARD_ERRORS_95 * result.stderr
    return f"| {who} | {result.value:.6g} | {result.value - half:.6g} to {result.value + half:.6g} |\n"
