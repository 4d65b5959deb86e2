"""How fast a base is trained on: counted in tokens of rows, measured over real steps, and without a trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradients.domain.json import JsonObject
from gradients.errors import DatasetInvalid
from gradients.files.digest import file_sha256
from gradients.tasks.jobs.machine import Throughput, ThroughputJob
from gradients.tasks.workers.throughput import measure
from gradients.testing.tiny_models import write_tiny_llama


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("base"))


def _measured(
    base: Path, folder: Path, texts: list[str], *, max_tokens: int = 64
) -> tuple[Throughput, list[JsonObject]]:
    file = folder / "texts.jsonl"
    file.write_text("\n".join(map(json.dumps, texts)))
    job = ThroughputJob(base_folder=base, texts_file=file, max_tokens=max_tokens, seconds=0.1)
    reports: list[JsonObject] = []
    return Throughput.model_validate(measure(job.model_dump(mode="json"), reports.append)), reports


def test_tokens_are_counted_as_rows_are_read(base: Path, tmp_path: Path) -> None:
    """Letters and digits are one token each here; the long row is cut, the row of one token is not a row to learn from."""
    found, _ = _measured(base, tmp_path, ["zq" * 10, "zq" * 1000, "z"], max_tokens=40)
    assert found.tokens_per_row == (20 + 40) / 2


def test_some_real_steps_are_measured(base: Path, tmp_path: Path) -> None:
    before = file_sha256(base / "model.safetensors")
    found, reports = _measured(base, tmp_path, [f"Where is house number {i}?" for i in range(20)])
    assert found.steps >= 3
    assert found.tokens_per_second > 0
    assert reports == [{"phase": "loaded"}]
    assert file_sha256(base / "model.safetensors") == before


def test_rows_without_a_token_are_the_customers_fault(base: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid):
        _measured(base, tmp_path, ["", "z"])
