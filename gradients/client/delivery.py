"""Bringing a model here so that a stranger's tools load it: its files, checked, and its base beside it where no hub has one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from gradients.bases.bases import BaseInfo, BaseModels, hub_name
from gradients.client.api import MarketClient
from gradients.client.models import BEST, TaskDetails
from gradients.client.shelf import Shelf
from gradients.errors import ModelUnknown, OutsideError, PeerUnreachable
from gradients.files.whole import write_text
from gradients.repo.card import BASE_FOLDER
from gradients.repo.delivery import ADAPTER_CONFIG, FULL_CONFIG
from gradients.repo.manifest import is_file_name


def bring(
    client: MarketClient, task_id: str, shelf: Shelf, *, miner: str | None = None, with_base: bool | None = None
) -> Path:
    """The folder of a scored task's model on the shelf, fetched anew.

    Args:
        miner: a hotkey; None means the winner.
        with_base: put the base beside an adapter; None: where the base can be had from no hub.

    Raises PeerUnreachable when a file does not come as it was announced, and ModelUnknown when the base is wanted and is not the one
    that the model was measured on.
    """
    task = client.task(task_id)
    model = client.model(task_id, miner or BEST)
    if not is_file_name(model.hotkey):
        raise PeerUnreachable(f"The validator names a miner {model.hotkey[:96]!r}, which is not a hotkey")
    beside = FULL_CONFIG not in model.files and (with_base if with_base is not None else hub_name(task.base) is None)
    base = _beside(task) if beside else None
    folder = shelf.folder(task.id, model.hotkey)
    with shelf.adding(task, model.hotkey) as part:
        client.download(task_id, model, part)
        if base is not None:
            copy_base(base, part / BASE_FOLDER)
            _point_at(part / ADAPTER_CONFIG, (folder / BASE_FOLDER).absolute())
    return folder


def measured_base(name: str, digest: str | None) -> BaseInfo:
    """A model's base on this machine, by name and digest of its files; a None is not compared.

    Raises ModelUnknown where it is another one than was measured, and as `BaseModels.resolve` does.
    """
    base = BaseModels.default(folders=True).resolve(name)
    if digest is not None and base.digest != digest:
        raise ModelUnknown(
            f"The base {name} on this machine is not the one that the model was measured on: its files have sha256 {base.digest[:16]}…, "
            f"not {digest[:16]}…",
            code="base_differs",
            fix="Remove it from ~/.cache/gradients/bases and try again",
        )
    return base


def _beside(task: TaskDetails) -> BaseInfo:
    try:
        return measured_base(task.base, task.data.base_digest if task.data else None)
    except (ModelUnknown, OutsideError) as error:
        raise ModelUnknown(
            f"The base cannot be put beside its adapter: {error.message}",
            code=error.code,
            fix="Give --without-base, and load the adapter where the base is",
        ) from error


def copy_base(base: BaseInfo, target: Path) -> None:
    """A base's folder under another name. Weights are shared with the original where the file system can, since nobody edits them."""
    shutil.copytree(base.folder, target, copy_function=share)


def share(source: str, target: str) -> None:
    """A file under another name too; of what is not weights, and on another file system, a copy."""
    if source.endswith(".safetensors"):
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            pass
        else:
            return
    shutil.copyfile(source, target)


def _point_at(adapter_config: Path, base: Path) -> None:
    """Let an adapter's config name its base by where it lies here, which loaders follow."""
    if adapter_config.is_file():  # LoRAs of image models have none
        config = json.loads(adapter_config.read_bytes())
        told = {**config, "base_model_name_or_path": str(base), "revision": None}
        write_text(adapter_config, json.dumps(told, indent=2, sort_keys=True))
