"""A whole fine-tuned model as files: the base's config and every weight, as precise as the base was stored."""

from __future__ import annotations

import shutil
from pathlib import Path

from gradients.ml.base_model import LoadedBase
from gradients.ml.shards import whole
from gradients.ml.tensor_files import write_tensors


def write_full_model(base: LoadedBase, folder: Path | None) -> None:
    """Write config.json and model.safetensors; a weight that is tied to another is written once, as transformers does.

    None only helps the process that writes to the parts of weights that lie here.
    """
    tensors = {
        name: whole(parameter.detach()).to("cpu", base.stored_dtype).contiguous()
        for name, parameter in base.model.named_parameters()
    }
    if folder is None:
        return
    shutil.copyfile(base.folder / "config.json", folder / "config.json")
    write_tensors(folder / "model.safetensors", tensors, header={"format": "pt"})
