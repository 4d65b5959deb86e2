"""Folders made out of the store for workers to read."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from gradients.errors import Blame, OperatorError
from gradients.repo.fetch import fetch_repo
from gradients.repo.manifest import Manifest
from gradients.repo.materialise import materialise
from gradients.repo.store import ContentStore
from gradients.testing.repo_sources import Source, manifest_of

FILES = {"config.json": b"{}", "model.safetensors": b"weights"}
OTHER_FILE_SYSTEM = Path("/dev/shm")  # memory, on every Linux


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "store")


@pytest.fixture
def manifest(store: ContentStore) -> Manifest:
    manifest = manifest_of(FILES)
    asyncio.run(fetch_repo(Source(FILES), manifest, store))
    return manifest


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_folder_holds_the_manifests_files_and_nothing_else(
    store: ContentStore, manifest: Manifest, tmp_path: Path
) -> None:
    folder = tmp_path / "deep" / "repo"
    materialise(store, manifest, folder)
    (folder / "intruder.py").write_text("")

    materialise(store, manifest, folder)

    assert content(folder) == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["repo"]


def test_files_are_links_that_cannot_be_written(store: ContentStore, manifest: Manifest, tmp_path: Path) -> None:
    materialise(store, manifest, tmp_path / "repo")

    for name, file in manifest.files.items():
        placed = (tmp_path / "repo" / name).stat()
        assert placed.st_ino == store.path(file.sha256).stat().st_ino
        assert stat.S_IMODE(placed.st_mode) == 0o400


@pytest.mark.skipif(not OTHER_FILE_SYSTEM.is_dir(), reason="needs a second file system")
def test_on_another_file_system_files_are_copies_that_cannot_be_written(
    store: ContentStore, manifest: Manifest
) -> None:
    folder = OTHER_FILE_SYSTEM / f"gradients-test-{os.getpid()}"
    try:
        materialise(store, manifest, folder)

        assert content(folder) == FILES
        assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o400}
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def test_bytes_that_changed_in_the_store_reach_no_worker(
    store: ContentStore, manifest: Manifest, tmp_path: Path
) -> None:
    materialise(store, manifest, tmp_path / "repo")
    blob = store.path(manifest.files["model.safetensors"].sha256)
    blob.chmod(0o644)
    blob.write_bytes(b"WEIGHTS")

    with pytest.raises(OperatorError) as caught:
        materialise(store, manifest, tmp_path / "another")

    assert (caught.value.code, caught.value.blame) == ("blob_corrupted", Blame.OPERATOR)
    assert not (tmp_path / "another").exists()


def test_after_bytes_had_changed_they_are_fetched_again(
    store: ContentStore, manifest: Manifest, tmp_path: Path
) -> None:
    blob = store.path(manifest.files["model.safetensors"].sha256)
    blob.chmod(0o644)
    blob.write_bytes(b"WEIGHTS")
    with pytest.raises(OperatorError):
        materialise(store, manifest, tmp_path / "repo")
    source = Source(FILES)

    asyncio.run(fetch_repo(source, manifest, store))
    materialise(store, manifest, tmp_path / "repo")

    assert source.asked == [("model.safetensors", 0)]
    assert content(tmp_path / "repo") == FILES
