"""Makes a folder of files out of the store, for a worker to read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from gradients.files.disk import writing
from gradients.files.whole import whole_folder
from gradients.repo.manifest import Manifest
from gradients.repo.store import ContentStore


def materialise(store: ContentStore, manifest: Manifest, folder: Path) -> None:
    """Replace `folder` by the files of `manifest`. Raises as `place_files` does."""
    place_files(store, {name: file.sha256 for name, file in manifest.files.items()}, folder)


def place_files(store: ContentStore, files: Mapping[str, str], folder: Path) -> None:
    """Replace `folder` by the files with these digests, by path; linked where the file system can, copied elsewhere; read-only either way.

    Raises OperatorError for bytes that are missing or no longer what they were: a miner does not answer for our disk.
    """
    sources = {name: store.check(sha256) for name, sha256 in files.items()}
    with whole_folder(folder) as fresh, writing(folder):
        for name, source in sources.items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, fresh / name)
            except OSError:  # another file system, or one without links
                shutil.copyfile(source, fresh / name)
                (fresh / name).chmod(0o400)
