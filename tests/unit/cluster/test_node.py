"""A node's part without a cluster: what it answers when it cannot do what it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradients.cluster.node import run_parcel
from gradients.cluster.parcel import Parcel, pack, trees_of
from gradients.execution.job import Job


@pytest.fixture
def parcel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parcel:
    monkeypatch.setenv("GRADIENTS_WORKER_FOLDER", str(tmp_path / "node"))
    rows = tmp_path / "rows"
    rows.write_text("rows")
    job = Job("gradients.testing.worker_functions:echo", {"rows": str(rows)}, tmp_path / "job", 30.0, reads=(rows,))
    nobody = "http://127.0.0.1:9"
    return pack(job, trees_of(job, lambda _: "0" * 64), sandboxed=False, origin=nobody, token="t")


def ended(parcel: Parcel) -> dict[str, object]:
    said = list(run_parcel(parcel.model_dump_json(), []))
    assert list(said[-1]) == ["ended"]
    end = said[-1]["ended"]
    assert isinstance(end, dict)
    error = end["error"]
    assert isinstance(error, dict)
    return error


def test_another_version_is_refused(parcel: Parcel) -> None:
    error = ended(parcel.model_copy(update={"version": "0.0.0"}))
    assert error["kind"] == "SetupError"
    assert "0.0.0" in str(error["message"])


def test_an_origin_that_is_away_is_said_to_be(parcel: Parcel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradients.cluster.fetching._REST_SECONDS", 0.0)
    assert ended(parcel)["code"] == "origin_unreachable"
    assert list((tmp_path / "node" / "jobs").iterdir()) == []
