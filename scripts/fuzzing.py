"""Generated requests against the customers' API: its document is what schemathesis makes them from, and what answers are held against.

python -m scripts.fuzzing [--cases 20000] [--ledger URL]    without a ledger, SQLite in a folder that is removed

They come in rounds, each with a seed of its own. A generated id is nobody's, so in all rounds but the first one the ids are those of tasks
that are there: scored, running, and a draft.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from gradients.clock import SystemClock
from gradients.domain.task import TaskId, TaskRequest
from gradients.testing.axons import serving_in_thread
from scripts.benchmarks import pages
from scripts.benchmarks.flood import api_in
from validator.ledger import Ledger

HOOKS = """# What schemathesis cannot know: how bodies of this type are written.
import schemathesis

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
"""
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
ROUND = 5_000  # cases that are asked for at once; of a route with few different requests there are fewer
TASKS = 60
DRAFT = TaskId("instruct-fffffffffff0")
_OPENING = Lock()  # alembic migrates one database of a process at a time
KNOWN = (None, pages.task_id_of(0), pages.task_id_of(TASKS - 2), DRAFT)


def fuzz(
    *, cases: int, ledger_url: str | None = None, seed: int = 1, task_id: str | None = None
) -> subprocess.CompletedProcess[str]:
    """What schemathesis said of an API of its own; it exits with 0 when every answer was in order.

    Args:
        cases: generated requests, shared out over the operations, beside those of the coverage phase (some hundreds in all).
        ledger_url: of a database; what is there stays.
        task_id: the task that is meant wherever a path names one; generated ones when there is none.
    """
    with tempfile.TemporaryDirectory() as folder:
        url = ledger_url or f"sqlite:///{folder}/ledger.db"
        with _OPENING:
            _furnish(url)
            app, key, limits = api_in(Path(folder), url)
        operations = sum(len(path) for path in app.openapi()["paths"].values())
        examples = max(math.ceil(cases / operations), 1)
        if task_id is not None:
            given = f'[parameters]\n"path.task_id" = "{task_id}"\n"path.hotkey" = "best"\n'
            Path(folder, "schemathesis.toml").write_text(given, encoding="utf-8")
        with serving_in_thread(app, host="127.0.0.1", limits=limits) as address:
            command = [sys.executable, "-m", "schemathesis.cli", "run", address.url("/openapi.json")]
            (Path(folder) / "fuzz_hooks.py").write_text(HOOKS, encoding="utf-8")
            environment = {**os.environ, "SCHEMATHESIS_HOOKS": "fuzz_hooks"}
            headers = ["--header", f"Authorization: Bearer {key}", "--header", "Tus-Resumable: 1.0.0"]
            flags = ["--checks", CHECKS, "--phases", "coverage,fuzzing"]
            counts = ["--max-examples", str(examples), "--seed", str(seed), "--request-timeout", "60", "--no-color"]
            return subprocess.run(
                [*command, *headers, *flags, *counts],
                capture_output=True,
                text=True,
                check=False,
                cwd=folder,
                env=environment,
            )


def _furnish(ledger_url: str) -> None:
    """Tasks of the customer who asks, where there are none."""
    ledger = Ledger.open(ledger_url, SystemClock())
    if ledger.tasks.count() == 0:
        pages.fill(ledger, TASKS)
        request = TaskRequest("instruct", "nano-lm", {"kind": "file", "path": "rows.jsonl"}, {}, 1.0)
        ledger.tasks.create(DRAFT, request, customer=pages.CUSTOMER, salt=b"s" * 32)
    ledger.engine.dispose()


def counted(run: subprocess.CompletedProcess[str]) -> tuple[int, int]:
    """How many requests were sent, and how many answers were in order."""
    found = re.search(r"([\d,]+) generated, ([\d,]+) passed", run.stdout)
    return (int(found[1].replace(",", "")), int(found[2].replace(",", ""))) if found else (0, 0)


def main() -> None:
    """Fuzz until there were so many cases or an answer was out of order, and say what came of it."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz api", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="generated requests, at least")
    parser.add_argument("--ledger", help="SQLAlchemy URL of an empty database")
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--at-once", type=int, default=1, help="rounds; they mostly wait for jobs and streams")
    asked = parser.parse_args()
    if asked.ledger:
        _furnish(asked.ledger)
    sent = passed = first = 0
    with ThreadPoolExecutor(asked.at_once) as pool:
        while sent < asked.cases:
            cases, numbers = math.ceil((asked.cases - sent) / asked.at_once), range(first, first + asked.at_once)
            begun = [
                pool.submit(
                    fuzz,
                    cases=min(cases, ROUND),
                    ledger_url=asked.ledger,
                    seed=asked.seed + number,
                    task_id=KNOWN[number % len(KNOWN)],
                )
                for number in numbers
            ]
            first = numbers.stop
            for run in [each.result() for each in begun]:
                if run.returncode != 0:
                    print(run.stdout, run.stderr)
                    sys.exit(run.returncode)
                sent, passed = sent + counted(run)[0], passed + counted(run)[1]
            print(f"{sent:,} generated, {passed:,} passed", flush=True)


if __name__ == "__main__":
    main()
