"""How much memory training is thought to take. GIB is 2**30 bytes; the reserves are 1 GiB on a CPU and 6 GiB on a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.memory import (
    CPU_RESERVE_BYTES,
    GIB,
    GPU_RESERVE_BYTES,
    Memory,
    bytes_to_train,
    first_gpu_bytes,
    installed_memory,
)

CPU = Memory(16 * GIB)
H200 = Memory(139 * GIB, is_gpu=True)


def test_a_lora_on_a_cpu_holds_the_weights_in_four_bytes() -> None:
    # 1e9 weights x 4 bytes x margin 1.2
    assert bytes_to_train(10**9, method="lora", memory=CPU) == 4_800_000_000 + CPU_RESERVE_BYTES


def test_a_full_fine_tune_holds_weights_gradients_and_two_moments() -> None:
    # 1e9 weights x 4 bytes x 4 copies x margin 1.2
    assert bytes_to_train(10**9, method="full", memory=CPU) == 19_200_000_000 + CPU_RESERVE_BYTES


def test_a_large_base_stays_in_two_bytes_on_a_gpu() -> None:
    # 70e9 weights are more than a tenth of 139 GiB: x 2 bytes x margin 1.2
    assert bytes_to_train(70 * 10**9, method="lora", memory=H200) == 168_000_000_000 + GPU_RESERVE_BYTES


@given(st.integers(0, 10**12), st.sampled_from([CPU, H200]))
def test_a_full_fine_tune_never_takes_less_than_a_lora(parameters: int, memory: Memory) -> None:
    assert bytes_to_train(parameters, method="full", memory=memory) >= bytes_to_train(
        parameters, method="lora", memory=memory
    )


@pytest.mark.parametrize(
    ("parameters", "method", "gpu_gib", "fits"),
    [
        (2 * 10**6, "full", 8, True),  # the shipped base anywhere
        (8 * 10**9, "lora", 16, False),
        (8 * 10**9, "lora", 24, True),
        (8 * 10**9, "full", 80, False),
        (8 * 10**9, "full", 139, False),
        (3 * 10**9, "full", 80, True),
    ],
)
def test_what_fits_a_gpu_is_what_people_train_there(
    parameters: int, method: Literal["lora", "full"], gpu_gib: int, fits: bool
) -> None:
    memory = Memory(gpu_gib * GIB, is_gpu=True)
    assert (bytes_to_train(parameters, method=method, memory=memory) <= memory.bytes) == fits


def test_this_machine_has_memory_for_the_shipped_base() -> None:
    there = installed_memory()
    assert bytes_to_train(2 * 10**6, method="full", memory=there) < there.bytes


TWO_GPUS = "0, GPU-11aa, 24576\n1, GPU-22bb, 81920\n"


@pytest.mark.parametrize(
    ("visible", "gib"),
    [
        (None, 24),
        ("0", 24),
        ("1", 80),
        ("1,0", 80),
        (" 1", 80),
        ("GPU-22", 80),
        ("", 0),
        ("-1", 0),
        ("7", 0),
        ("MIG-1", 0),
    ],
)
def test_the_gpu_that_counts_is_the_first_visible_one(visible: str | None, gib: int) -> None:
    assert first_gpu_bytes(TWO_GPUS, visible) == gib * GIB


def test_workers_get_the_gpu_that_was_given_to_the_miner(tmp_path: Path) -> None:
    script = f"""
import asyncio
from pathlib import Path
from gradients.execution.job import Job
from miner.settings import MinerSettings
from miner.wiring import build
miner = build(MinerSettings.load(None, {{"folder": "{tmp_path}", "wallet": {{"name": "//Miner", "hotkey": "//Miner//hot"}}}}))
job = Job("gradients.testing.worker_functions:show_environment", {{}}, Path("{tmp_path}/job"), deadline_seconds=600)
print(asyncio.run(miner.attempts.trainings.executor.run(job, report=print))["environment"].get("CUDA_VISIBLE_DEVICES"))
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GRADIENTS_", "BT_"))}
    run = subprocess.run(
        [sys.executable, "-c", script],
        env=environment | {"CUDA_VISIBLE_DEVICES": "1,2"},
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    assert run.stdout.splitlines()[-1] == "1,2"
