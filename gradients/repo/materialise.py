"""Makes a folder of a repo's files out of the store, for a worker to read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from gradients.errors import ValidatorError
from gradients.repo.manifest import Manifest
from gradients.repo.store import ContentStore


def materialise(store: ContentStore, manifest: Manifest, folder: Path) -> None:
    """Replace `folder` by the files of `manifest`, linked where the file system can, copied elsewhere; read-only either way."""
    fresh = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, file in manifest.files.items():
        source = store.path(file.sha256)
        if not source.is_file():
            raise ValidatorError(f"{name} ({file.sha256[:12]}…) is not in the store", code="blob_missing")
        try:
            os.link(source, fresh / name)
        except OSError:
            shutil.copyfile(source, fresh / name)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.replace(folder)
