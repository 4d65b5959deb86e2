"""Runs one hostile job as whoever runs this, and prints what it got: python -m tests.security.isolation_run FOLDER sandboxed|kept|open.

A process of its own, so that it can be started as root and as a normal user, with SECRET in its environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

from gradients.domain.json import JsonObject
from gradients.execution.job import Held, Job
from gradients.execution.process import ProcessExecutor
from gradients.execution.warm import WarmExecutor

SECRET = "the-key-of-this-validator"


def main(root: Path, how: str) -> JsonObject:
    """What `look_around` got of a validator's folder, its process and its ports."""
    folders = {name: root / "validator" / name for name in ("wallet", "uploads", "tasks/other", "tasks/mine", "base")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    files = [folders["wallet"] / "hotkey", root / "validator" / "ledger.db", folders["tasks/other"] / "held_out.jsonl"]
    for file in files:
        file.write_text(SECRET)
    (folders["base"] / "config.json").write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        arguments: JsonObject = {
            "files": [*map(str, files), "/etc/passwd"],
            "folders": [str(root), str(folders["tasks/other"]), str(folders["base"])],
            "ports": [str(server.getsockname()[1])],
            "parent": os.getpid(),
            "secret": SECRET,
            "own": str(folders["tasks/mine"] / "results"),
        }
        job = Job(
            "tests.security.hostile_jobs:look_around",
            arguments,
            folders["tasks/mine"] / "job",
            deadline_seconds=600,
            reads=(folders["base"],),
            writes=(folders["tasks/mine"] / "results",),
        )
        return asyncio.run(run(job, how, root / "validator" / "workers"))


async def run(job: Job, how: str, workers: Path) -> JsonObject:
    """In a worker of its own, or in one that is kept for jobs on the same base."""
    plain = ProcessExecutor(sandboxed=how != "open")
    if how != "kept":
        return await plain.run(job, report=lambda _: None)
    executor = WarmExecutor(plain, workers, sandboxed=True)
    try:
        held = Held("gradients.testing.worker_functions:hold", {}, reads=job.reads)
        return await executor.run(replace(job, holds=held), report=lambda _: None)
    finally:
        await executor.close()


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))  # noqa: T201 (the test reads it)
