"""How much memory the processes take that this one has started."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Self


class PeakMemory:
    """The largest sum of the proportional set sizes of this process's workers, looked at five times a second."""

    def __enter__(self) -> Self:
        self.peak_megabytes, self._over = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            self.peak_megabytes = max(
                self.peak_megabytes, sum(map(_proportional_bytes, _descendants(os.getpid()))) / 1e6
            )


def _descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [each for child in map(int, children) for each in (child, *_descendants(child))]


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
