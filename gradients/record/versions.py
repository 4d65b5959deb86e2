"""What measures here, as far as numbers may depend on it."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

from gradients import __version__

LIBRARIES = ("torch", "transformers", "peft", "diffusers", "numpy", "tokenizers", "safetensors")
MATTER = ("processor", "torch", "transformers", "peft", "diffusers")  # must be equal for equal bits


def versions(*, accelerator: str = "cpu", threads: int = 1) -> dict[str, str]:
    """Our version, libraries by name, and what computes with how many threads."""
    found = {
        "gradients": __version__,
        "python": platform.python_version(),
        "processor": _processor(),
        "accelerator": accelerator,
        "threads": str(threads),
    }
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    """The processor's own name, or the machine's kind where it has none."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text(encoding="utf-8").splitlines() if cpu.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
