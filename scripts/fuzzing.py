"""Generated requests against the customers' API: its document is what schemathesis makes them from, and what answers are held against.

python -m scripts.fuzzing [--cases 20000] [--ledger URL]    without a ledger, SQLite in a folder that is removed
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from gradients.testing.axons import serving_in_thread
from scripts.benchmarks.flood import api_in

HOOKS = """# What schemathesis cannot know: how bodies of this type are written.
import schemathesis

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
"""
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def fuzz(*, cases: int, ledger_url: str | None = None, seed: int = 1) -> subprocess.CompletedProcess[str]:
    """What schemathesis said of an API of its own; it exits with 0 when every answer was in order.

    Args:
        cases: generated requests, shared out over the operations, beside those of the coverage phase (some hundreds in all).
        ledger_url: an empty database.
    """
    with tempfile.TemporaryDirectory() as folder:
        app, key, limits = api_in(Path(folder), ledger_url)
        operations = sum(len(path) for path in app.openapi()["paths"].values())
        examples = max(math.ceil(cases / operations), 1)
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


def main() -> None:
    """Fuzz once, and say what came of it."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz api", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="generated requests")
    parser.add_argument("--ledger", help="SQLAlchemy URL of an empty database")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    run = fuzz(cases=asked.cases, ledger_url=asked.ledger, seed=asked.seed)
    print(run.stdout, run.stderr)
    sys.exit(run.returncode)


if __name__ == "__main__":
    main()
