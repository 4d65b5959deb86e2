"""What the driver says of the GPUs at this moment."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

MIB = 1024**2
ASK_SECONDS = 5
QUERY = (
    "--query-gpu=index,name,utilization.gpu,memory.used,memory.total,temperature.gpu,power.draw",
    "--format=csv,noheader,nounits",
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One of them; None where the driver does not know."""

    index: str
    name: str
    busy: float | None  # share of the time
    used_bytes: float | None
    total_bytes: float | None
    celsius: float | None
    watts: float | None


def gpus() -> list[Gpu] | str:
    """All of the machine's, or why nothing is known. Blocking for a second at most; a driver that hangs is given up."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "There is no NVIDIA driver here; training runs on the CPU"
    try:
        run = subprocess.run([tool, *QUERY], capture_output=True, text=True, timeout=ASK_SECONDS, check=True)  # noqa: S603 (a fixed command)
    except (OSError, subprocess.SubprocessError) as error:
        return f"nvidia-smi does not answer: {error}"
    return listed(run.stdout)


def listed(text: str) -> list[Gpu]:
    """GPUs of a listing of nvidia-smi, a line each."""
    found = []
    for line in text.splitlines():
        index, name, busy, used, total, celsius, watts = (cell.strip() for cell in line.split(","))
        percent, used_mib, total_mib = _number(busy), _number(used), _number(total)
        found.append(
            Gpu(
                index,
                name,
                percent / 100 if percent is not None else None,
                used_mib * MIB if used_mib is not None else None,
                total_mib * MIB if total_mib is not None else None,
                _number(celsius),
                _number(watts),
            )
        )
    return found


def _number(text: str) -> float | None:
    """A cell, which may be "[N/A]"."""
    try:
        return float(text)
    except ValueError:
        return None
