"""How much memory there is, and what training a pipeline of images of unknown shape takes of it; for others see miner/fit.py.

Covers: weights, gradients, AdamW's two moments, and a reserve for activations and the runtime. Does not cover: who else uses the device.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from typing import Literal

from gradients.execution.accelerator import torch_may_use_gpu
from gradients.tasks.footprint import NARROW_ABOVE

GIB = 1024**3
MIB = 1024**2
CPU_RESERVE_BYTES = 1 * GIB  # the runtime, and 2,048 tokens' activations
GPU_RESERVE_BYTES = 6 * GIB  # logits of a batch (2 GiB) with their gradient and softmax
MARGIN = 1.2
LOW_BIT_PACKAGES = ("bitsandbytes", "accelerate")  # the extra `gpu`
QUERY = ("--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True, slots=True)
class Memory:
    """Where a training may live."""

    bytes: int  # of one GPU, or of the machine
    is_gpu: bool = False
    devices: int = 1  # over which weights lie in parts
    gpus: int = 1  # that are here
    low_bits: bool = True  # whether what keeps weights in 4 bits and moments in 8 is installed

    def share(self, tasks: int) -> Memory:
        """What one of so many tasks may take."""
        return replace(self, bytes=self.bytes // tasks)


def bytes_to_train(parameters: int, *, method: Literal["lora", "full"], memory: Memory) -> int:
    """What training a base of so many weights takes.

    A full fine-tune holds weights, gradients and two moments in the weights' precision, a LoRA the weights only: 4 bytes each on a CPU, as
    gradients/ml/device.py chooses on a GPU.
    """
    narrow = memory.is_gpu and parameters > NARROW_ABOVE * memory.bytes
    copies = 4 if method == "full" else 1
    reserve = GPU_RESERVE_BYTES if memory.is_gpu else CPU_RESERVE_BYTES
    return int(parameters * (2 if narrow else 4) * copies * MARGIN) + reserve


def installed_memory(visible: str | None = None) -> Memory:
    """The memory of the GPU that workers use, or the machine's where there is none or torch has no use for it.

    Args:
        visible: CUDA_VISIBLE_DEVICES, where it is set; its first device counts, and an empty one hides all GPUs.
    """
    low_bits = all(importlib.util.find_spec(name) for name in LOW_BIT_PACKAGES)
    tool = shutil.which("nvidia-smi") if torch_may_use_gpu(visible) else None
    if tool is not None:  # asked without torch, which takes seconds to import
        run = subprocess.run([tool, *QUERY], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603 (a fixed command)
        if run.returncode == 0 and (gpu := first_gpu_bytes(run.stdout, visible)):
            return Memory(gpu, is_gpu=True, gpus=visible_gpus(run.stdout, visible), low_bits=low_bits)
    return Memory(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), low_bits=low_bits)


def visible_gpus(listing: str, visible: str | None) -> int:
    """How many GPUs of a listing of nvidia-smi workers see; see `first_gpu_bytes`."""
    listed = len(listing.splitlines())
    return listed if visible is None else max(1, min(listed, len(visible.split(","))))


def first_gpu_bytes(listing: str, visible: str | None) -> int:
    """Bytes of the first visible GPU in a listing of nvidia-smi (index, UUID, MiB; a line each), or 0 when none is.

    `visible` names GPUs by index or by the beginning of their UUID. A part of a GPU (MIG) counts as none: it has less than the whole.
    """
    first = None if visible is None else visible.split(",")[0].strip()
    for line in listing.splitlines():
        index, uuid, mebibytes = (field.strip() for field in line.split(","))
        if first is None or first == index or (first.startswith("GPU-") and uuid.startswith(first)):
            return int(mebibytes) * MIB if mebibytes.isdigit() else 0
    return 0
