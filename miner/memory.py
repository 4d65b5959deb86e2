"""How much memory training takes and how much there is, so that a miner declines what would only crash. An estimate on the safe side.

Covers: weights, gradients, AdamW's two moments, and a reserve for activations and the runtime. Does not cover: who else uses the device.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Literal

GIB = 1024**3
MIB = 1024**2
CPU_RESERVE_BYTES = 1 * GIB  # the runtime, and 2,048 tokens' activations
GPU_RESERVE_BYTES = 6 * GIB  # logits of a batch (2 GiB) with their gradient and softmax
MARGIN = 1.2
NARROW_ABOVE = (
    0.1  # a GPU keeps the weights in 2 bytes instead of 4 when there are more of them than this share of its bytes
)
QUERY = ("--query-gpu=memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True, slots=True)
class Memory:
    """Where a training may live."""

    bytes: int
    is_gpu: bool = False


def bytes_to_train(parameters: int, *, method: Literal["lora", "full"], memory: Memory) -> int:
    """What training a base of so many weights takes.

    A full fine-tune holds weights, gradients and two moments in the weights' precision, a LoRA the weights only: 4 bytes each on a CPU, as
    gradients/ml/device.py chooses on a GPU.
    """
    narrow = memory.is_gpu and parameters > NARROW_ABOVE * memory.bytes
    copies = 4 if method == "full" else 1
    reserve = GPU_RESERVE_BYTES if memory.is_gpu else CPU_RESERVE_BYTES
    return int(parameters * (2 if narrow else 4) * copies * MARGIN) + reserve


def installed_memory() -> Memory:
    """The first GPU's memory, or the machine's where there is no GPU."""
    gpu = _gpu_bytes()
    if gpu:
        return Memory(gpu, is_gpu=True)
    return Memory(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _gpu_bytes() -> int:
    """Memory of the first GPU, or 0 without one that works. Asked without torch, which takes seconds to import."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    run = subprocess.run([tool, *QUERY], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603 (a fixed command)
    first = next(iter(run.stdout.split()), "")
    return int(first) * MIB if run.returncode == 0 and first.isdigit() else 0
