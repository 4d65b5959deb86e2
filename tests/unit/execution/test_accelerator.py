"""A GPU counts when torch can use it: asked of planted torch packages and an nvidia-smi that names a card, without importing torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CUDA_BUILD = (
    "from typing import Optional\n__version__ = '2.13.0'\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n"
)
ROCM_BUILD = "__version__ = '2.13.0'\ncuda = None\nhip = '6.4'\n"
CPU_BUILD = "__version__ = '2.13.0'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n"


def plant(folder: Path, version_file: str | None, *, version: str = "2.13.0") -> None:
    """A torch that cannot be imported without it being noticed."""
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text("raise AssertionError('torch was imported')")
    if version_file is not None:
        (folder / "torch" / "version.py").write_text(version_file)
    (folder / f"torch-{version}.dist-info").mkdir()
    (folder / f"torch-{version}.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n"
    )


def ask(folder: Path, expression: str, **variables: str) -> object:
    """What an expression says in a process that finds the planted torch first, and a card by nvidia-smi."""
    (tools := folder / "bin").mkdir(exist_ok=True)
    smi = tools / "nvidia-smi"
    cards = "*uuid*) echo '0, GPU-11aa, 81559';; *) echo 'NVIDIA H100 80GB HBM3, 81559 MiB, 580.1';;"
    smi.write_text(f'#!/bin/sh\ncase "$*" in {cards} esac\n')
    smi.chmod(0o755)
    script = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "from gradients.execution.accelerator import torch_build, torch_may_use_gpu\n"
        "from miner.memory import installed_memory\n"
        "from gradients.doctor.machine import accelerator\n"
        f"print(json.dumps({expression}))"
    )
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", **variables}
    run = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    return json.loads(run.stdout)


@pytest.mark.parametrize(
    ("version_file", "version", "build"),
    [
        (CUDA_BUILD, "2.13.0", "12.8"),
        (ROCM_BUILD, "2.13.0", "6.4"),
        (CPU_BUILD, "2.13.0", "cpu"),  # an index that serves CPU builds without saying so
        (CUDA_BUILD, "2.13.0+cpu", "cpu"),
        (None, "2.13.0", "cpu"),
    ],
)
def test_what_torch_was_built_for_is_read_and_not_tried(
    tmp_path: Path, version_file: str | None, version: str, build: str
) -> None:
    plant(tmp_path, version_file, version=version)
    assert ask(tmp_path, "torch_build()") == build


@pytest.mark.parametrize(("version_file", "counts"), [(CUDA_BUILD, True), (CPU_BUILD, False)])
def test_a_miner_plans_with_a_gpu_that_torch_can_use(tmp_path: Path, version_file: str, counts: bool) -> None:
    plant(tmp_path, version_file)
    assert ask(tmp_path, "installed_memory().is_gpu") is counts


@pytest.mark.parametrize("visible", ["", "-1", "NoDevFiles"])
def test_a_gpu_that_is_hidden_does_not_count(tmp_path: Path, visible: str) -> None:
    plant(tmp_path, CUDA_BUILD)
    assert ask(tmp_path, f"[torch_may_use_gpu({visible!r}), torch_may_use_gpu('0,1'), torch_may_use_gpu(None)]") == [
        False,
        True,
        True,
    ]
    assert ask(tmp_path, f"installed_memory({visible!r}).is_gpu") is False


def test_doctor_says_what_the_miner_would(tmp_path: Path) -> None:
    plant(tmp_path, CPU_BUILD)
    assert ask(tmp_path, "accelerator().level") == "missing"
    said = str(ask(tmp_path, "accelerator().found"))
    assert said == "NVIDIA H100 80GB HBM3, 81559 MiB, 580.1, which workers cannot use: torch is a build for the CPU"
