"""Rows of a hub's data set, through the unmodified `datasets` and a hub on loopback."""

from __future__ import annotations

import base64
import gzip
import json
import resource
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradients.datasets.hub import TOKENS, child_environment
from gradients.datasets.reading import read_rows
from gradients.datasets.rows import Row
from gradients.datasets.sources import DatasetLimits, HubSource
from gradients.errors import DatasetInvalid, DiskFull, OutsideError
from gradients.testing.loopback_hub import loopback_hub
from gradients.testing.loopback_site import Page, loopback_site, pages

ROWS: list[Row] = [{"instruction": f"Name number {i}", "output": f"„{i}“"} for i in range(70)]


KEYS: list[str | None] = []  # what the requests to the hub had for Authorization
PICTURE = b"a picture's bytes"


def _table(file: Path, images: list[dict[str, bytes | str | None]]) -> None:
    """A Parquet file whose column `image` is declared to hold images."""
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    features = {"image": {"_type": "Image"}, "caption": {"dtype": "string", "_type": "Value"}}
    table = pa.table({"image": pa.array(images, kind), "caption": [f"number {n}" for n in range(len(images))]})
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    file.parent.mkdir(parents=True)
    pq.write_table(table.replace_schema_metadata(about), file)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a hub's data sets; this process has a token for it, in its environment and from a login."""
    root, home = tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("home")
    (home / "token").write_text("hf_secret")
    with pytest.MonkeyPatch.context() as environment, loopback_hub(root, keys=KEYS) as url:
        environment.setenv("HF_ENDPOINT", url)
        environment.setenv("HF_HOME", str(home))
        environment.setenv("HF_TOKEN", "hf_secret")
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
        yield root / "datasets" / "acme"


@pytest.mark.usefixtures("hub")
def test_a_hubs_rows_are_those_that_were_uploaded() -> None:
    assert read_rows(HubSource(repo="acme/rows")) == ROWS


def test_shards_are_read_in_their_order_and_gzips_files_unpacked(hub: Path) -> None:
    (hub / "shards" / "data").mkdir(parents=True)
    for number, rows in enumerate((ROWS[:50], ROWS[50:])):
        packed = gzip.compress("\n".join(map(json.dumps, rows)).encode())
        (hub / "shards" / "data" / f"train-0000{number}-of-00002.jsonl.gz").write_bytes(packed)
    assert read_rows(HubSource(repo="acme/shards")) == ROWS


def test_no_more_is_downloaded_or_unpacked_than_is_taken(hub: Path) -> None:
    (hub / "bomb").mkdir()
    (hub / "bomb" / "train.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n' * 1_000_000))
    with pytest.raises(DatasetInvalid, match="more than 1,000,000 bytes"):
        read_rows(HubSource(repo="acme/bomb"), limits=DatasetLimits(bytes=1_000_000))


@pytest.mark.usefixtures("hub")
def test_a_split_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(DatasetInvalid, match="no split 'test', but train"):
        read_rows(HubSource(repo="acme/rows", split="test"))


@pytest.mark.usefixtures("hub")
def test_a_hub_is_asked_as_anybody_may_ask_it() -> None:
    """Our token would open what is private to us to every customer."""
    KEYS.clear()
    read_rows(HubSource(repo="acme/rows"))
    assert set(KEYS) == {None}


def test_no_token_is_handed_to_a_process_that_reads_the_public_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://huggingface.co")
    for name in TOKENS:
        monkeypatch.setenv(name, "hf_secret")
    environment = child_environment()
    assert "hf_secret" not in environment.values()
    assert environment["HF_HUB_DISABLE_IMPLICIT_TOKEN"] == "1"


@pytest.mark.slow
def test_images_come_as_their_files_whether_they_stand_in_cells_or_in_the_data_set(hub: Path) -> None:
    _table(hub / "cells" / "data" / "train.parquet", [{"bytes": PICTURE, "path": "a.png"}])
    folder = hub / "folder" / "train"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(PICTURE)
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "caption": "number 0"}')
    expected = [{"image": base64.b64encode(PICTURE).decode(), "caption": "number 0"}]
    assert read_rows(HubSource(repo="acme/cells")) == expected
    assert read_rows(HubSource(repo="acme/folder")) == [{**expected[0], "file_name": "train/a.png"}]


@pytest.mark.slow
def test_paths_and_urls_in_cells_are_not_opened(hub: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(PICTURE)
    with loopback_site(pages({"/a.png": Page([PICTURE])})) as site:
        for number, path in enumerate((str(tmp_path / "secret.png"), f"{site.url}/a.png")):
            _table(hub / f"path{number}" / "train.parquet", [{"bytes": None, "path": path}])
            with pytest.raises(DatasetInvalid, match="names images outside of the data set"):
                read_rows(HubSource(repo=f"acme/path{number}"))
        assert site.requests == []


def test_a_card_that_names_files_elsewhere_makes_no_request_to_them(hub: Path) -> None:
    with loopback_site(pages({"/rows.jsonl": Page([b'{"a": 1}'])})) as site:
        card = f'---\nconfigs:\n- config_name: default\n  data_files: "{site.url}/rows.jsonl"\n---\n'
        (hub / "elsewhere").mkdir()
        (hub / "elsewhere" / "README.md").write_text(card)
        with pytest.raises(DatasetInvalid, match="should lie in the data set"):
            read_rows(HubSource(repo="acme/elsewhere"))
        assert site.requests == []


@pytest.mark.slow
def test_media_other_than_images_are_refused(hub: Path) -> None:
    file = hub / "sounds" / "train.parquet"
    _table(file, [{"bytes": b"RIFF", "path": "a.wav"}])
    table = pq.read_table(file)
    about = {"huggingface": table.schema.metadata[b"huggingface"].replace(b'"Image"', b'"Audio"')}
    pq.write_table(table.replace_schema_metadata(about), file)
    with pytest.raises(DatasetInvalid, match="column 'image' holds media"):
        read_rows(HubSource(repo="acme/sounds"))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (HubSource(repo="acme/unknown"), "doesn't exist on the Hub"),
        (HubSource(repo="acme/empty"), "any data files"),
        (HubSource(repo="acme/script"), "scripts are no longer supported"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_a_hub_does_not_have_is_the_customers_fault(source: HubSource, reason: str) -> None:
    with pytest.raises(DatasetInvalid, match=reason) as caught:
        read_rows(source)
    assert caught.value.fix


@pytest.mark.usefixtures("hub")
def test_a_folder_of_this_machine_is_no_data_set_of_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` reads a folder when one has the name that is asked for."""
    (tmp_path / "acme" / "private").mkdir(parents=True)
    (tmp_path / "acme" / "private" / "train.jsonl").write_text('{"secret": 1}\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetInvalid, match="doesn't exist on the Hub"):
        read_rows(HubSource(repo="acme/private"))


@pytest.mark.usefixtures("hub")
def test_a_data_set_that_finds_no_room_is_the_operators_to_solve() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))  # what the kernel then says is what a quota says
    try:
        with pytest.raises(DiskFull, match="There is no room for the data set acme/rows"):
            read_rows(HubSource(repo="acme/rows"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
def test_a_hub_that_is_away_is_nobodys_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with loopback_hub(tmp_path) as url:
        pass  # the port was free a moment ago, and nobody listens there now
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(OutsideError, match="Is the hub reachable"):
        read_rows(HubSource(repo="acme/rows"))
