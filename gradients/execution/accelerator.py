"""Whether workers can use a GPU, found without importing torch: the one answer for what a miner plans with and what `doctor` says.

Covers: a torch that was built for the CPU cannot use a GPU, however loudly nvidia-smi names one; CUDA_VISIBLE_DEVICES may hide all
of them. Does not cover: whether driver and torch get along, which only a worker can try.
"""

from __future__ import annotations

import importlib.util
import re
from importlib import metadata
from pathlib import Path

NO_DEVICE = frozenset({"", "-1", "none", "NoDevFiles"})  # values of CUDA_VISIBLE_DEVICES that hide every GPU


def torch_build() -> str | None:
    """ "cpu", or the CUDA or ROCm version that the installed torch was built for, such as "12.8"; None without torch.

    An index may serve CPU builds without "+cpu" in their version, so torch's own version.py is read, as text.
    """
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        version = ""
    if version.endswith("+cpu"):
        return "cpu"
    file = Path(found.origin).with_name("version.py")
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    builds = re.findall(r"^(?:cuda|hip)\b[^=\n]*=\s*['\"]([^'\"]+)['\"]", text, flags=re.MULTILINE)
    return builds[0] if builds else "cpu"


def torch_may_use_gpu(visible: str | None) -> bool:
    """Whether torch was built for a GPU and none of its variables hides all of them.

    Args:
        visible: CUDA_VISIBLE_DEVICES, where it is set.
    """
    if visible is not None and visible.split(",")[0].strip() in NO_DEVICE:
        return False
    return torch_build() not in (None, "cpu")
