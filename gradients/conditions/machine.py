"""What a daemon needs of its machine: room on its disk, and the GPUs that were there at its start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gradients.doctor.findings import Finding
from gradients.doctor.machine import accelerator
from gradients.doctor.storage import folder


async def room(place: Path) -> Sequence[Finding]:
    """Whether the daemon's folder can be written to, and has room."""
    return await asyncio.to_thread(lambda: list(folder(place, name="folder", flag="--folder")))


@dataclass(slots=True)
class Accelerator:
    """A GPU is missed when it was there before: a machine that never had one that works is slow, and works."""

    find: Callable[[], Finding] = accelerator
    worked: bool = field(default=False)

    async def look(self) -> Sequence[Finding]:
        """Whether what worked still does."""
        finding = await asyncio.to_thread(self.find)
        self.worked = self.worked or finding.level == "ok"
        if self.worked and finding.level != "ok":
            return [replace(finding, level="missing", found=f"it worked before; now: {finding.found}")]
        return [replace(finding, level="note") if finding.level == "missing" else finding]
