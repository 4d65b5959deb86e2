"""Bringing a model here so that a stranger's tools load it: its files, checked, and its base beside it where no hub has one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from gradients.bases.bases import BaseInfo, BaseModels, base_in, hub_name
from gradients.bases.continued import continued_task
from gradients.client.api import MarketClient
from gradients.client.models import BEST, TaskDetails
from gradients.client.shelf import Shelf, ShelvedModel
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
        with_base: put the base beside an adapter, and beside any model of a task that continues another; None: where no hub has the base.

    Raises PeerUnreachable when a file does not come as it was announced, and ModelUnknown when the base is wanted and is not the one
    that the model was measured on.
    """
    task = client.task(task_id)
    model = client.model(task_id, miner or BEST)
    if not is_file_name(model.hotkey):
        raise PeerUnreachable(f"The validator names a miner {model.hotkey[:96]!r}, which is not a hotkey")
    # Whoever wants to compare with it, or merge with it, needs a base that only the validator has, and so does a whole model's owner.
    made = continued_task(task.base) is not None
    wanted = with_base if with_base is not None else hub_name(task.base) is None
    beside = wanted and (made or FULL_CONFIG not in model.files)
    base = _beside(task) if beside and not made else None
    folder = shelf.folder(task.id, model.hotkey)
    with shelf.adding(task, model.hotkey) as part:
        client.download(task_id, model, part)
        if base is not None:
            copy_base(base, part / BASE_FOLDER)
        if beside and made:
            _bring_base(client, task, part / BASE_FOLDER)
        if beside:
            _point_at(part / ADAPTER_CONFIG, (folder / BASE_FOLDER).absolute())
    return folder


def base_behind(model: ShelvedModel) -> BaseInfo:
    """The base of a model on the shelf, as it was measured: on this machine or, of one that only its validator has, beside the model.

    Raises as `measured_base` does.
    """
    name, digest, beside = model.card.base, model.card.base_digest, model.folder / BASE_FOLDER
    if continued_task(name) is None:
        return measured_base(name, digest)
    if not beside.is_dir():
        fix = "Get the model with its base: gradients task download --with-base"
        raise ModelUnknown(f"The base of {model.name} is not beside it", code="base_not_here", fix=fix)
    return _as_measured(base_in(name, beside), digest)


def measured_base(name: str, digest: str | None) -> BaseInfo:
    """A model's base on this machine, by name and digest of its files; a None is not compared.

    Raises ModelUnknown where it is another one than was measured, and as `BaseModels.resolve` does.
    """
    return _as_measured(BaseModels.default(folders=True).resolve(name), digest)


def _as_measured(base: BaseInfo, digest: str | None) -> BaseInfo:
    if digest is not None and base.digest != digest:
        raise ModelUnknown(
            f"The base {base.name} on this machine is not the one that the model was measured on: "
            f"its files have sha256 {base.digest[:16]}…, not {digest[:16]}…",
            code="base_differs",
            fix="Remove it from ~/.cache/gradients/bases and try again",
        )
    return base


def _bring_base(client: MarketClient, task: TaskDetails, folder: Path) -> None:
    """The base that was made for the task. Raises PeerUnreachable when it is another one than the task says."""
    listing = client.base(task.id)
    if task.data is not None and listing.digest != task.data.base_digest:
        raise PeerUnreachable(f"The validator has another base for {task.id} than it says")
    client.download_base(task.id, listing, folder)


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
