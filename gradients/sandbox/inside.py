"""The first program inside the sandbox: takes the limits, reads what is given, and runs `main` of the program beside it.

Runs with Python's standard library alone and imports nothing of ours: python inside.py CPU_SECONDS MEMORY_BYTES OUTPUT_BYTES.
The answer goes to what was standard output; whatever the program prints goes nowhere.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import runpy
import sys
from collections.abc import Sequence

PROGRAM = "/program.py"
EXIT_MEMORY, EXIT_OUTPUT = errno.ENOMEM, errno.EFBIG


def main(arguments: Sequence[str]) -> None:
    """Answer as the program does."""
    _take_limits(*map(int, arguments))
    given = json.load(sys.stdin)
    answer = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        result = json.dumps(runpy.run_path(PROGRAM)["main"](given), allow_nan=False)
        written = os.write(answer, result.encode())
    except MemoryError:
        os._exit(EXIT_MEMORY)
    # nothing that the program left behind runs any more
    os._exit(0 if written == len(result) else EXIT_OUTPUT)


def _take_limits(cpu_seconds: int, memory_bytes: int, output_bytes: int) -> None:
    for what, most in (
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, output_bytes),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


if __name__ == "__main__":
    main(sys.argv[1:])
