from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gradients.errors import DiskFull
from gradients.ml.files import write_file, write_folder, write_tensors, write_text


@pytest.fixture
def room_for_4_kib() -> Iterator[None]:
    """Every file that this process writes may have 4 KiB; what the kernel then says is what a full disk says."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_replaces_the_older_one_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    write_text(tmp_path / "file", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "new"}


def test_a_file_whose_writing_fails_leaves_the_older_one(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise InterruptedError

    write_text(tmp_path / "file", "old")
    with pytest.raises(InterruptedError):
        write_file(tmp_path / "file", fail)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "old"}


def test_a_folder_appears_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "first").write_text("1")
        raise InterruptedError

    with pytest.raises(InterruptedError):
        write_folder(tmp_path / "folder", fail)
    assert list(tmp_path.iterdir()) == []
    write_folder(tmp_path / "folder", lambda folder: (folder / "first").write_text("1"))
    write_folder(tmp_path / "folder", lambda folder: (folder / "second").write_text("2"))
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["folder", "folder/second"]


@pytest.mark.usefixtures("room_for_4_kib")
def test_tensors_that_find_no_room_are_a_full_disk(tmp_path: Path) -> None:
    write_tensors(tmp_path / "small", {"a": torch.ones(10)}, header={})
    with pytest.raises(DiskFull, match="large"):
        write_tensors(tmp_path / "large", {"a": torch.ones(10_000)}, header={})
