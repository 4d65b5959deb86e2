"""What a doctor says of GPUs: asked of planted torch packages and an nvidia-smi of our own, in the processes that it starts for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gradients.doctor.machine import torch_trial

BUILD = "__version__ = '2.13.0'\ncuda = '12.8'\nhip = None\n"
TWO_CARDS = """
class version: cuda, hip = "12.8", None
class cuda:
    device_count = staticmethod(lambda: {count})
    mem_get_info = staticmethod(lambda number: (60 << 30, 80 << 30))
    get_device_name = staticmethod(lambda number: f"card {{number}}")
class Matrix:
    def __matmul__(self, other): {multiply}
    def sum(self): return {product}
def ones(*shape, device): return Matrix()
"""


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which Python and the shell look first."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def plant(box: Path, *, count: int = 2, multiply: str = "return self", product: str = "64.0**3") -> None:
    """A torch that sees `count` cards."""
    (box / "torch").mkdir()
    (box / "torch" / "version.py").write_text(BUILD)
    (box / "torch-2.13.0.dist-info").mkdir()
    (box / "torch-2.13.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0\n")
    (box / "torch" / "__init__.py").write_text(TWO_CARDS.format(count=count, multiply=multiply, product=product))


def test_each_gpu_that_multiplies_is_named_with_its_free_memory(box: Path) -> None:
    plant(box)
    found = torch_trial()
    assert (found.level, found.found) == (
        "ok",
        "calculates on card 0, 60 of 80 GiB free; card 1, 60 of 80 GiB free",
    )


def test_a_gpu_that_raises_is_told_in_torchs_own_words(box: Path) -> None:
    plant(box, multiply="raise RuntimeError('CUDA error: no kernel image is available for execution on the device')")
    found = torch_trial()
    assert found.level == "missing"
    assert found.found.endswith("RuntimeError: CUDA error: no kernel image is available for execution on the device")
    assert "another build of torch" in found.advice


def test_a_gpu_that_multiplies_wrongly_does_not_count(box: Path) -> None:
    plant(box, product="1.0")
    assert torch_trial().level == "missing"


def test_a_gpu_that_torch_does_not_see_is_missing(box: Path) -> None:
    plant(box, count=0)
    found = torch_trial()
    assert (found.level, "sees no GPU where nvidia-smi names one" in found.found) == ("missing", True)
    assert "--gpus all" in found.advice


def found_beside(box: Path, *, says: str) -> dict[str, str]:
    """Names and levels beside an nvidia-smi that says this of itself, in a process that has not imported another torch."""
    tool = box / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncase \"$*\" in *name*) echo 'H100, 81559 MiB, 570.1';; *) echo '{says}';; esac\n")
    tool.chmod(0o755)
    program = (
        "from gradients.doctor.machine import gpu; import json; print(json.dumps({f.name: f.level for f in gpu()}))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=600)
    levels: dict[str, str] = json.loads(run.stdout)
    return levels


@pytest.mark.parametrize(
    ("says", "level"),
    [
        ("| CUDA Version: 12.8 |", "ok"),
        ("| CUDA Version: 12.2 |", "ok"),  # minor versions get along
        ("| CUDA UMD Version: 13.0 |", "ok"),  # as drivers from 590 on write it
        ("| CUDA Version: 11.8 |", "missing"),
        ("| nothing of the kind |", "note"),
    ],
)
def test_a_driver_needs_the_major_version_that_torch_was_built_for(box: Path, says: str, level: str) -> None:
    plant(box)
    assert found_beside(box, says=says) == {"gpu": "ok", "driver": level, "torch": "ok"}
