"""Makes a folder of a repo's files out of the store, for a worker to read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from gradients.files.disk import write_failure
from gradients.repo.manifest import Manifest
from gradients.repo.store import ContentStore


def materialise(store: ContentStore, manifest: Manifest, folder: Path) -> None:
    """Replace `folder` by the files of `manifest`, linked where the file system can, copied elsewhere; read-only either way.

    Raises OperatorError for bytes that are missing or no longer what they were: a miner does not answer for our disk.
    """
    fresh = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    sources = {name: store.check(file.sha256) for name, file in manifest.files.items()}
    try:
        fresh.mkdir(parents=True)
        for name, source in sources.items():
            _place(source, fresh / name)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.replace(folder)
    except OSError as error:
        raise write_failure(error, fresh) from error


def _place(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
        target.chmod(0o444)
