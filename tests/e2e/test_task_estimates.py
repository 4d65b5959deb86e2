"""`gradients task submit` without hours: what a customer is shown and asked before anything is posted. The API answers from a script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from gradients.testing.loopback_site import Page, Request, Site, loopback_site
from tests.unit.client import answers

ESTIMATE = {
    "type": "instruct",
    "base": "nano-lm",
    "rows": 1200,
    "tokens": 108_000,
    "parameters": 1_476_864,
    "gpus": 1,
    "tokens_per_second": 3100.4,
    "measured": {"tokens_per_row": 90.0, "tokens_per_second": 3100.4, "steps": 5, "device": "cpu"},
    "hours": 1.25,
    "tried_rows": 1024,
    "cut_rows": 12,
    "memory": [{"method": "lora", "gpu_gib": 24}, {"method": "full", "gpu_gib": None}],
    "hours_by_rows": {"shortest": 1, "longest": 3, "source": "the subnet's code of December 2025"},
}
SHOWN = """\
1,200 rows, 108,000 tokens an epoch; nano-lm has 1,476,864 weights; 3,100 tokens a second on 1 device(s) (measured on cpu: 3,100).
Memory for a LoRA on a GPU of 24 GiB, all weights on no single GPU.
12 of 1,024 rows that were tried lose tokens to max_tokens or to what the base reads.
That makes 1.25 hours for each miner (by rows alone the subnet's code of December 2025 has 1 to 3)."""
ANSWERS = {
    "/v1/datasets": {"dataset": "upload:" + "0" * 64 + ".jsonl", "customer": "acme"},
    "/v1/estimates": ESTIMATE,
    "/v1/tasks": answers.task(state="draft").model_dump(mode="json"),
}


def _answer(request: Request) -> Page:
    return Page([json.dumps(ANSWERS[request.path.partition("?")[0]]).encode()])


@pytest.fixture
def api() -> Iterator[Site]:
    with loopback_site(_answer) as site:
        yield site


def _task(api: Site, command: str, folder: Path, *arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    rows = folder / "rows.jsonl"
    rows.write_text("{}")
    spec = ("--type", "instruct", "--base", "nano-lm", "--dataset", str(rows))
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "gradients.cli",
            "task",
            command,
            *spec,
            "--api-url",
            api.url,
            "--api-key",
            "x",
            *arguments,
        ],
        input=said,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"NO_COLOR": "1"},
    )


def _posted(api: Site) -> list[Mapping[str, object]]:
    return [json.loads(request.body) for request in api.requests if request.path == "/v1/tasks"]


@pytest.mark.parametrize("said", ["y\n", "\n"])
def test_the_estimate_is_shown_and_posted_once_the_customer_agrees(api: Site, tmp_path: Path, said: str) -> None:
    run = _task(api, "submit", tmp_path, said=said)
    assert run.returncode == 0, run.stderr
    assert SHOWN in run.stdout
    assert "Post the task?" in run.stdout
    assert [spec["hours"] for spec in _posted(api)] == [1.25]
    assert [request.path.partition("?")[0] for request in api.requests] == list(ANSWERS)  # one upload serves both


@pytest.mark.parametrize("said", ["n\n", ""])
def test_nothing_is_posted_when_the_customer_does_not_agree_or_nobody_is_there(
    api: Site, tmp_path: Path, said: str
) -> None:
    run = _task(api, "submit", tmp_path, said=said)
    assert run.returncode == 1
    assert "Aborted" in run.stderr
    assert _posted(api) == []


@pytest.mark.parametrize(("flag", "shown"), [("--yes", True), ("--json", False)])
def test_scripts_are_not_asked(api: Site, tmp_path: Path, flag: str, shown: bool) -> None:
    run = _task(api, "submit", tmp_path, flag)
    assert run.returncode == 0, run.stderr
    assert (SHOWN in run.stdout) == shown
    assert "Post the task?" not in run.stdout
    assert [spec["hours"] for spec in _posted(api)] == [1.25]


def test_with_hours_nothing_is_estimated(api: Site, tmp_path: Path) -> None:
    assert _task(api, "submit", tmp_path, "--hours", "2").returncode == 0
    assert "/v1/estimates" not in [request.path for request in api.requests]
    assert [spec["hours"] for spec in _posted(api)] == [2]


def test_an_estimate_posts_nothing(api: Site, tmp_path: Path) -> None:
    assert _task(api, "estimate", tmp_path).stdout.strip() == SHOWN
    assert json.loads(_task(api, "estimate", tmp_path, "--json").stdout) == {**ESTIMATE, "data": None}
    assert _posted(api) == []
