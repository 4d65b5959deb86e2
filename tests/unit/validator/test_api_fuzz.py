"""The API's document holds for generated requests, on every database; `scripts/fuzz api` makes more of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys


def test_no_generated_request_is_answered_otherwise_than_the_document_says(database_url: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "scripts.fuzzing", "--cases", "100", "--ledger", database_url],
        env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9"},  # nobody listens there: a generated base asks no hub
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-8_000:] + run.stderr
    counted = re.search(r"(\d[\d,]*) generated, (\d[\d,]*) passed", run.stdout)
    assert counted is not None
    assert counted[1] == counted[2]
    assert int(counted[1].replace(",", "")) > 200
