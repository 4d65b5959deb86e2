"""A model of the shelf, or an export of it, taken to a model hub or an S3 store of the customer's.

Covers: what is taken there can be used there: an adapter names its base by what others know it as. Does not cover: rights and names there,
which hub and store judge in their own words.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from gradients.bases.bases import BaseInfo, hub_source
from gradients.bases.hub import EXIT_REFUSED
from gradients.client.delivery import share
from gradients.client.shelf import CARD_FILE, ShelvedModel
from gradients.config import upload_environment
from gradients.errors import OutsideError, SetupError
from gradients.files.whole import write_text
from gradients.record.exporting import S3Target
from gradients.repo.card import BASE_FOLDER
from gradients.repo.delivery import ADAPTER_CONFIG, FULL_CONFIG

UPLOAD_SECONDS = 24 * 3600.0
HUB, S3 = "hub:", "s3://"
_REPO = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class HubPlace(NamedTuple):
    """A repo of a model hub."""

    repo: str
    public: bool


class S3Place(NamedTuple):
    """Where in an S3 store."""

    bucket: str
    prefix: str


Place = HubPlace | S3Place


def place_of(text: str, *, public: bool = False) -> Place:
    """The place that hub:ORG/NAME or s3://BUCKET/PREFIX names. Raises SetupError for anything else."""
    if text.startswith(HUB) and _REPO.fullmatch(repo := text.removeprefix(HUB)):
        return HubPlace(repo, public)
    bucket, _, prefix = text.removeprefix(S3).partition("/")
    if text.startswith(S3) and _BUCKET.fullmatch(bucket) and prefix.strip("/"):
        return S3Place(bucket, prefix.strip("/"))
    raise SetupError(f"{text[:200]} is not a place for models", fix="Give hub:ORG/NAME or s3://BUCKET/PREFIX")


def push(model: ShelvedModel, folder: Path, place: Place) -> str:
    """Upload `folder`, the model itself or an export of it; its address there.

    Raises SetupError for an adapter that nobody could load there and for a token or a name that the hub refuses, OutsideError when hub or
    store cannot be written.
    """
    with _staged(model, folder, keep_base=isinstance(place, S3Place)) as stage:
        if isinstance(place, HubPlace):
            return _to_hub(stage, place)
        target = S3Target(place.bucket, place.prefix)
        for file in sorted(stage.rglob("*")):
            if file.is_file():
                target.put_file(file.relative_to(stage).as_posix(), file)
        return f"{S3}{place.bucket}/{place.prefix}"


@contextmanager
def _staged(model: ShelvedModel, folder: Path, *, keep_base: bool) -> Iterator[Path]:
    """What is uploaded of a folder: nothing that only this machine can follow."""
    needs_base = folder == model.folder and not (folder / FULL_CONFIG).is_file()
    beside = folder / BASE_FOLDER  # where the base is beside its adapter, with the commit that it came from
    on_hub = hub_source(BaseInfo(model.card.base, beside, model.card.base_digest or "", 0))
    if needs_base and on_hub is None and not keep_base:
        raise SetupError(
            f"No hub has {model.card.base}, so nobody could load an adapter of it from there", fix="Push with --merged"
        )
    if needs_base and on_hub is None and not beside.is_dir():
        raise SetupError("The adapter's base is not beside it", fix="gradients task download --with-base, and again")
    left = [CARD_FILE, *([BASE_FOLDER] if on_hub or not needs_base else [])]
    with tempfile.TemporaryDirectory(prefix=".push-", dir=folder.parent) as place:
        stage = Path(place) / "model"
        shutil.copytree(folder, stage, copy_function=share, ignore=lambda at, _: left if Path(at) == folder else [])
        config = stage / ADAPTER_CONFIG
        if needs_base and config.is_file():
            told = json.loads(config.read_bytes())
            if (
                on_hub is None or told.get("base_model_name_or_path") != on_hub.repo
            ):  # it names a folder of this machine
                told["base_model_name_or_path"] = on_hub.repo if on_hub else BASE_FOLDER
                told["revision"] = on_hub.revision if on_hub else None
            write_text(config, json.dumps(told, indent=2, sort_keys=True))
        yield stage


def _to_hub(folder: Path, place: HubPlace) -> str:
    run = subprocess.run(  # noqa: S603 (our own module)
        [
            *(sys.executable, "-m", "gradients.client.hub_upload", str(folder), place.repo),
            "public" if place.public else "private",
        ],
        env=upload_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=UPLOAD_SECONDS,
    )
    if run.returncode == 0:
        return (run.stdout.strip().splitlines() or [place.repo])[-1]
    said = (run.stderr.strip().splitlines() or ["no reason given"])[-1]
    if run.returncode == EXIT_REFUSED:
        raise SetupError(
            f"The hub does not take {place.repo}: {said}", fix="Set HF_TOKEN to a token that may write there"
        )
    raise OutsideError(f"{place.repo} could not be uploaded: {said}", fix="Is the hub reachable? Try again")
