"""Where tensors live and how precisely they are multiplied, found out by trying."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

_PROBE_SIZE = 2048
_LARGEST_SHARE = 0.8  # of a GPU's free memory that weights may take; the rest is for what a batch needs
_MIN_GAIN = 1.3  # how much faster bfloat16 must be to be worth its rounding


@dataclass(frozen=True, slots=True)
class Device:
    """A device and the precision of its matrix products."""

    name: str  # as torch names it: "cpu", "cuda"
    autocast_dtype: torch.dtype | None = None  # None: float32 throughout

    def precision(self) -> torch.autocast:
        """The context in which a model's forward pass runs."""
        return torch.autocast(self.name, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None)

    def forget_unused(self) -> None:
        """Give memory back that lies in pieces which nobody uses."""
        if self.name == "cuda":
            torch.cuda.empty_cache()

    def describe(self) -> dict[str, str | int]:
        """What a record of a measurement says about where it was taken."""
        precision = self.autocast_dtype or torch.float32
        return {
            "device": torch.cuda.get_device_name() if self.name == "cuda" else self.name,
            "precision": str(precision).removeprefix("torch."),
            "threads": torch.get_num_threads(),
        }


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of torch's, or of Python's own, says that memory has run out; a smaller batch may fit."""
    is_ours = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return is_ours or "can't allocate memory" in str(error)  # the CPU's allocator has no class of its own


def choose_device() -> Device:
    """The GPU where there is one, with bfloat16 if that is fast there; else the CPU in float32.

    A CPU is not probed: only float32 gives the same bits on every run, and bfloat16 without hardware for it is 100 times slower.
    """
    if not torch.cuda.is_available():
        return Device("cpu")
    gain = _matmul_seconds("cuda", torch.float32) / _matmul_seconds("cuda", torch.bfloat16)
    return Device("cuda", torch.bfloat16 if gain > _MIN_GAIN else None)


def weights_dtype(device: Device, stored_bytes: int) -> torch.dtype | None:
    """float32 where it fits, so that small changes of weights survive; None keeps the stored precision.

    Args:
        stored_bytes: size of the weights on disk, taken as two bytes a weight.
    """
    if device.name != "cuda":
        return torch.float32
    free_bytes, _ = torch.cuda.mem_get_info()
    return torch.float32 if 2 * stored_bytes < 0.4 * free_bytes else None


def is_larger_than_one(device: Device, stored_bytes: int) -> bool:
    """Whether a model of this size has to be spread over several GPUs, and there are several."""
    if device.name != "cuda" or torch.cuda.device_count() < 2:
        return False
    free_bytes, _ = torch.cuda.mem_get_info()
    return bool(stored_bytes > _LARGEST_SHARE * free_bytes)


def _matmul_seconds(device: str, dtype: torch.dtype) -> float:
    """Seconds for a product of two square matrices, the best of three after one to warm up."""
    matrix = torch.ones(_PROBE_SIZE, _PROBE_SIZE, device=device, dtype=dtype)
    seconds = []
    for _ in range(4):
        torch.cuda.synchronize()
        started = time.perf_counter()
        _ = matrix @ matrix
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
