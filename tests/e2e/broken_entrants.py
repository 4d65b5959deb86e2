"""The metric of instruct tasks in a worker that breaks in the middle of an entrant, as the entrant's folder says."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

from gradients.domain.json import JsonObject
from gradients.tasks.instruct import metric
from gradients.tasks.jobs.measuring import MeasureJob

FUNCTION, FAULT = "tests.e2e.broken_entrants:measure", "fault"
_ROOM, _MORE = 16 * 1024**2, 4 * 1024**3  # that is left when memory runs out, and that is asked for


def measure(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """As `gradients.tasks.instruct.metric:measure`; a fault happens at the entrant's first report."""
    faults = {entrant.id: _fault(entrant.folder) for entrant in MeasureJob.model_validate(arguments).entrants}

    def breaking(told: JsonObject) -> None:
        report(told)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        _FAULTS.get(faults[str(told["entrant"])], lambda: None)()

    return metric.measure(arguments, breaking)


def _fault(folder: Path | None) -> str:
    file = folder / FAULT if folder else None
    return file.read_text() if file and file.is_file() else ""


def _take_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + _ROOM, resource.RLIM_INFINITY))
    bytearray(_MORE)  # what the next large allocation comes to


_FAULTS: dict[str, Callable[[], object]] = {
    "slow": lambda: time.sleep(1.0),
    "hang": lambda: time.sleep(3600),
    "segv": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "memory": _take_memory,
}
