"""The tracker's process: a first line that says where curves go, then a trainer's reports, until its input ends."""

from __future__ import annotations

import sys
import time

from gradients.tasks.jobs.training import TrainProgress
from miner.tracking.points import Points
from miner.tracking.writers import Begin, open_writer


def main() -> None:
    """Write what comes in. Whatever the library raises ends the process, with its reason as the last line of stderr."""
    lines = iter(sys.stdin.buffer.readline, b"")
    writer, points = open_writer(Begin.model_validate_json(next(lines))), Points()
    try:
        for line in lines:
            for point in points.of(TrainProgress.model_validate_json(line), seconds=time.monotonic()):
                writer.write(point)
    finally:
        writer.close()


if __name__ == "__main__":
    main()
