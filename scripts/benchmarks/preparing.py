"""What it takes to prepare a large data set: the worker's processor time and its peak of memory, all of them its rows' text."""

from __future__ import annotations

import csv
import itertools
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gradients.tasks.instruct.spec import INSTRUCT
from gradients.tasks.preparation import prepare
from gradients.tasks.registry import validate_request
from scripts.benchmarks.timing import Figure, figure

MEBIBYTES = int(os.environ.get("BENCH_MEBIBYTES", "256"))
WORDS, ASKED, ANSWERED = 30_000, 115, 287  # different words, and how many a row's question and answer have


def write_table(path: Path, mebibytes: float) -> int:
    """A CSV file of about this size with rows of 2,800 characters, words as frequent as in prose; how many rows it has."""
    drawn = random.Random(3)
    words = ["".join(drawn.choices("abcdefghijklmnopqrstuvwxyz", k=drawn.randint(2, 10))) for _ in range(WORDS)]
    often = list(itertools.accumulate(1 / (rank + 10) for rank in range(WORDS)))
    rows = size = 0
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["instruction", "output"])
        while size < mebibytes * 2**20:
            asked = f"Explain number {rows}: " + " ".join(drawn.choices(words, cum_weights=often, k=ASKED))
            answered = " ".join(drawn.choices(words, cum_weights=often, k=ANSWERED))
            table.writerow([asked, answered])
            size += len(asked) + len(answered) + 3
            rows += 1
    return rows


def large_table() -> Sequence[Figure]:
    """A table of BENCH_MEBIBYTES (256) prepared in a process of its own, as a data worker does it."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "rows.csv"
        rows = write_table(table, MEBIBYTES)
        started, child = time.monotonic(), os.fork()
        if child == 0:
            asked = validate_request({"type": INSTRUCT.name, "base": "nano-lm", "dataset": str(table), "hours": 1})
            prepare(INSTRUCT, asked, salt=b"s" * 32, folder=Path(folder) / "prepared")
            os._exit(0)
        _, status, used = os.wait4(child, 0)
        seconds = time.monotonic() - started
    if status:
        sys.exit(f"preparing ended with status {status}")
    name = f"{MEBIBYTES} MiB of CSV, {rows:,} rows"
    return [
        figure(f"{name}: wall time", "s", [seconds]),
        figure(f"{name}: processor time", "s", [used.ru_utime + used.ru_stime]),
        figure(f"{name}: peak memory", "MB", [used.ru_maxrss * 1024 / 1e6]),
    ]
