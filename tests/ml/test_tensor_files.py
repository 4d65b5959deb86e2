from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gradients.errors import DiskFull
from gradients.ml.tensor_files import write_tensors


@pytest.fixture
def room_for_4_kib() -> Iterator[None]:
    """Every file that this process writes may have 4 KiB; what the kernel then says is what a full disk says."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("room_for_4_kib")
def test_tensors_that_find_no_room_are_a_full_disk(tmp_path: Path) -> None:
    write_tensors(tmp_path / "small", {"a": torch.ones(10)}, header={})
    with pytest.raises(DiskFull, match="large"):
        write_tensors(tmp_path / "large", {"a": torch.ones(10_000)}, header={})
