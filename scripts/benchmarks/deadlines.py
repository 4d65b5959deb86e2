"""Whether a miner ever misses a deadline: many tasks with random budgets, in some of which its worker, its daemon or both are killed.

Each task is a process of the real miner (deadline_miner.py) with the shipped base and data. A kill falls somewhere into the first part of
the budget; what was killed with -9 is started again two seconds later, as a supervisor does. A task ends in time, too late, or without a
submission and with a reason; only the second is a deadline missed. Every run is a line of JSON in BENCH_RUNS.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from gradients.axon.messages import BlobName, Offer, Start
from gradients.bases.bases import BaseModels
from gradients.chain.wallet import open_wallet
from gradients.errors import LedgerConflict
from gradients.tasks.base import SHIPPED_DATA
from miner.journal import Journal, Record
from scripts.benchmarks.deadline_miner import WALLET
from scripts.benchmarks.timing import Figure, figure

RUNS, KILLED_OF, AT_ONCE = 200, 5, 2  # one of so many is killed
BUDGETS = (10.0, 120.0)  # seconds that the deadline is away
KILL_WITHIN = 0.6  # of the budget
RESTART_SECONDS = 2.0
RECIPES = ("tuned", "lora-tuned", "full-tuned", "lora-plus")
BASE, ROWS = "nano-lm", 600
TASK = "instruct-0123456789ab"
Victim = Literal["worker", "daemon", "both"]


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of one task."""

    number: int
    seconds: float
    recipe: str
    victim: Victim | None
    killed_after: float | None
    ended: Literal["in time", "late", "without"]
    spare_seconds: float | None  # between the commitment and the deadline
    reason: str


def deadlines() -> Iterator[Figure]:
    """BENCH_DEADLINES runs, 200 by default, BENCH_AT_ONCE at a time."""
    runs, at_once = (int(os.environ.get(name, default)) for name, default in _SIZES.items())
    journal = Path(os.environ.get("BENCH_RUNS", os.devnull))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(at_once) as pool:
        made = []
        for ran in pool.map(lambda number: _run(Path(folder) / str(number), number), range(runs)):
            made.append(ran)
            with journal.open("a") as file:
                file.write(json.dumps(asdict(ran)) + "\n")
            print(json.dumps(asdict(ran)), file=sys.stderr, flush=True)
    for killed in (False, True):
        among = [ran for ran in made if (ran.victim is not None) == killed]
        counts = Counter(ran.ended for ran in among)
        whose = f"of {len(among)} runs {'with a kill' if killed else 'left alone'}"
        for ended in ("in time", "late", "without"):
            yield figure(f"{ended} {whose}", "runs", [float(counts[ended])])
    if spare := [ran.spare_seconds for ran in made if ran.spare_seconds is not None]:
        yield figure("commitment before the deadline", "s", spare)


_SIZES = {"BENCH_DEADLINES": RUNS, "BENCH_AT_ONCE": AT_ONCE}


def _run(folder: Path, number: int) -> Ran:
    """One task from its start to its end."""
    draw = random.Random(number)
    seconds, recipe = draw.uniform(*BUDGETS), draw.choice(RECIPES)
    victim: Victim | None = draw.choice(("worker", "daemon", "both")) if number % KILLED_OF == 0 else None
    kill_after = draw.uniform(1.0, KILL_WITHIN * seconds) if victim else None
    _begin(folder, seconds, seed=number)
    miner = _start(folder, recipe)
    if victim and kill_after:
        time.sleep(kill_after)
        _kill(miner, victim)
        if victim != "worker":
            miner.wait()
            time.sleep(RESTART_SECONDS)
            miner = _start(folder, recipe)
    miner.wait(seconds + 120)
    record = Journal(folder / "tasks").find(TASK)
    if record is None:
        raise LedgerConflict("the task that was begun is not in its journal")
    block, deadline = record.committed_at_block, record.start.deadline_block
    late = block is not None and block > deadline
    shutil.rmtree(folder, ignore_errors=True)
    return Ran(
        number=number,
        seconds=seconds,
        recipe=recipe,
        victim=victim,
        killed_after=kill_after,
        ended="late" if late else "without" if block is None else "in time",
        spare_seconds=None if block is None else float(deadline - block),
        reason=record.failure or "",
    )


def _begin(folder: Path, seconds: float, *, seed: int) -> None:
    """The journal of a miner that has just accepted the task, at block 0 of its chain."""
    with (SHIPPED_DATA / "wordnet-definitions" / "rows.jsonl").open(encoding="utf-8") as file:
        told = [json.loads(line) for line in file][:ROWS]
    texts = [{"system": None, "prompt": row["question"], "completion": row["definition"]} for row in told]
    rows = "".join(json.dumps(row) + "\n" for row in texts).encode()
    base = BaseModels.default(folder / "caches").resolve(BASE)
    offer = Offer(
        task_id=TASK,
        type="instruct",
        base=BASE,
        base_digest=base.digest,
        base_parameters=base.parameters,
        train_rows=ROWS,
        hours=seconds / 3600,
    )
    start = Start(
        offer=offer,
        parameters={"max_tokens": 256},
        train=BlobName(sha256=hashlib.sha256(rows).hexdigest(), size_bytes=len(rows)),
        held_out_commitment="c" * 64,
        draw_sha256="d" * 64,
        started_at_block=0,
        deadline_block=int(seconds),
        reveal_until_block=int(seconds) + 1000,
        seed=seed,
    )
    (folder / "origin").parent.mkdir(parents=True, exist_ok=True)
    (folder / "origin").write_text(repr(time.time()))
    hotkey = open_wallet(*WALLET).hotkey.ss58_address
    Journal(folder / "tasks").write(Record(start=start, validator=hotkey, accepted_at=1.0, salt="5a" * 32))
    (folder / "tasks" / TASK / "train.jsonl").write_bytes(rows)


def _start(folder: Path, recipe: str) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        command = [sys.executable, "-m", "scripts.benchmarks.deadline_miner", str(folder), recipe]
        return subprocess.Popen(command, stdout=log, stderr=log)


def _kill(miner: subprocess.Popen[bytes], victim: Victim) -> None:
    """SIGKILL for the daemon, its workers, or both; whoever has ended already is left in peace."""
    workers = Path(f"/proc/{miner.pid}/task/{miner.pid}/children").read_text().split() if miner.poll() is None else []
    for pid in [*(map(int, workers) if victim != "daemon" else ()), *((miner.pid,) if victim != "worker" else ())]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
