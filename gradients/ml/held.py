"""Bases that a process keeps for whoever loads them next, so that they are read from the disk once.

Covers: workers that load a base before their job and run each job in a copy of themselves; the copy may change the base as it likes. What
is held lies on the CPU, because a process that has started a GPU cannot be copied. Elsewhere nothing is held, and loading loads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch

_held: dict[tuple[str, Path], object] = {}  # filled before any job, and never after


def hold(family: str, folder: Path, load: Callable[[], object]) -> None:
    """Keep the base that `load` loads, for as long as this process lives."""
    torch.set_num_threads(1)  # a copy of this process has no other thread, and OpenMP would wait for those that it had
    _held[family, folder.absolute()] = load()


def held(family: str, folder: Path) -> object | None:
    """The base that is kept for `folder`, or None."""
    found = _held.get((family, folder.absolute()))
    if found is not None:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    return found
