"""Several data sets as one task's over the customers' API: from files of the customer's machine to an estimate and a task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest
from pydantic import JsonValue
from typer.testing import CliRunner

from gradients.cli.task import app
from gradients.client.api import MarketClient
from gradients.datasets.sources import MergedSource, parse_source
from gradients.domain.json import Json
from tests.e2e.api_market import MAX_UPLOAD_BYTES, Market, refusal_of

COLUMNS = {"columns": {"instruction": "q", "output": "a"}}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """60 rows, and 40 in other words with other names, of which 5 are in the first file too."""
    first = [{"q": f"What does page {i * i} of the book say?", "a": f"first {i} {i**3}"} for i in range(60)]
    second = [{"frage": f"Who wrote letter {i * i} to Rome?", "antwort": f"second {i} {i**3}"} for i in range(35)]
    second += [{"frage": row["q"], "antwort": row["a"]} for row in first[:5]]
    for name, rows in (("first.jsonl", first), ("second.jsonl", second)):
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
        assert (tmp_path / name).stat().st_size < MAX_UPLOAD_BYTES
    return tmp_path / "first.jsonl", tmp_path / "second.jsonl"


def test_files_are_uploaded_one_by_one_and_the_report_tells_of_each(market: Market, files: tuple[Path, Path]) -> None:
    dataset: Json = [str(files[0]), {"dataset": str(files[1]), "columns": {"q": "frage", "a": "antwort"}}]
    spec: dict[str, Json] = {"type": "instruct", "base": "tiny", "dataset": dataset, "parameters": {**COLUMNS}}
    with MarketClient(market.url, market.ledger.customers.issue("acme")) as client:
        spec = client.uploaded(spec)
        report = client.estimate(spec).data
        task = client.submit({**spec, "hours": 1})
    assert report is not None
    assert report.removed["repeated"] == 5
    assert [(s.rows, s.taken, s.usable, s.repeated) for s in report.sources] == [(60, 60, 60, 0), (40, 40, 40, 5)]
    assert sum(s.train_rows or 0 for s in report.sources) == report.train_rows
    assert report.sources[0].dataset.endswith(".jsonl")
    found = market.ledger.tasks.find(task.id)
    assert found is not None
    source = parse_source(cast(JsonValue, found.request.dataset))
    assert isinstance(source, MergedSource)
    assert source.sources[1].columns == {"q": "frage", "a": "antwort"}


def test_an_upload_of_somebody_else_and_a_path_are_refused_in_a_list_too(market: Market) -> None:
    theirs = market.upload(by=market.client("rival")).json()["dataset"]
    for dataset in ([theirs], ["hub:acme/rows", {"dataset": "/etc/passwd"}], [{"dataset": theirs, "limit": 1}]):
        refusal = refusal_of(market.acme.post("/v1/tasks", json=market.spec(dataset=dataset)), 422)
        assert "no upload" in refusal["message"] or "cannot name files" in refusal["message"]
    assert market.ledger.tasks.count() == 0


def test_the_command_takes_several_and_shows_what_becomes_of_each(market: Market, files: tuple[Path, Path]) -> None:
    second = json.dumps({"dataset": str(files[1]), "columns": {"q": "frage", "a": "antwort"}, "limit": 20})
    given = ["estimate", "--type", "instruct", "--base", "tiny", "--dataset", str(files[0]), "--dataset", second]
    columns = ["--set", "columns.instruction=q", "--set", "columns.output=a"]
    access = ["--api-url", market.url, "--api-key", market.ledger.customers.issue("acme")]
    run = CliRunner().invoke(app, [*given, *columns, *access], catch_exceptions=False)
    assert run.exit_code == 0, run.output
    assert ".jsonl: 40 rows, 20 taken, 20 usable" in run.stdout
