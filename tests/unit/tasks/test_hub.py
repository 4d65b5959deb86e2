"""Rows of a hub's data set, through the unmodified `datasets` and a hub on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradients.errors import DatasetInvalid, OutsideError
from gradients.tasks.base import Row
from gradients.tasks.sources import HubSource, read_rows
from gradients.testing.loopback_hub import loopback_hub

ROWS: list[Row] = [{"instruction": f"Name number {i}", "output": f"„{i}“"} for i in range(70)]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("hub")
    with pytest.MonkeyPatch.context() as environment, loopback_hub(root) as url:
        environment.setenv("HF_ENDPOINT", url)
        environment.setenv("HF_HOME", str(tmp_path_factory.mktemp("home")))
        rows = "\n".join(map(json.dumps, ROWS))
        contents = {
            "rows/train.jsonl": rows,
            "empty/README.md": "# Nothing yet",
            "script/script.py": "raise SystemExit",
        }
        for name, content in contents.items():
            file = root / "datasets" / "acme" / name
            file.parent.mkdir(parents=True)
            file.write_text(content)
        yield url


def test_a_hubs_rows_are_those_that_were_uploaded(hub: str) -> None:
    assert read_rows(HubSource(repo="acme/rows")) == ROWS


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (HubSource(repo="acme/unknown"), "doesn't exist on the Hub"),
        (HubSource(repo="acme/empty"), "any data files"),
        (HubSource(repo="acme/script"), "scripts are no longer supported"),
    ],
)
def test_what_a_hub_does_not_have_is_the_customers_fault(source: HubSource, reason: str, hub: str) -> None:
    with pytest.raises(DatasetInvalid, match=reason) as caught:
        read_rows(source)
    assert caught.value.fix


def test_a_folder_of_this_machine_is_no_data_set_of_a_hub(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`datasets` reads a folder when one has the name that is asked for."""
    (tmp_path / "acme" / "private").mkdir(parents=True)
    (tmp_path / "acme" / "private" / "train.jsonl").write_text('{"secret": 1}\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetInvalid, match="doesn't exist on the Hub"):
        read_rows(HubSource(repo="acme/private"))


@pytest.mark.slow
def test_a_hub_that_is_away_is_nobodys_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with loopback_hub(tmp_path) as url:
        pass  # the port was free a moment ago, and nobody listens there now
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(OutsideError, match="Is the hub reachable"):
        read_rows(HubSource(repo="acme/rows"))
