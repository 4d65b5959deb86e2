"""The route between a validator and its nodes: each token opens one run's files, for as long as the run lasts."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import cast
from urllib.parse import quote

import httpx
import pytest
from fastapi.testclient import TestClient

from gradients.cluster import exchange as module
from gradients.cluster.exchange import Exchange, Run, exchange_app
from gradients.cluster.fetching import KeptFiles
from gradients.cluster.parcel import Tree, TreeFile
from gradients.errors import OutsideError

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Origin:
    """An exchange with one run, and a client that has its token."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "weights"
        self.file.write_bytes(CONTENT)
        self.exchange = Exchange()
        self.run = self.open(folder / "run")
        self.client = self.client_of(self.run.token)

    def open(self, folder: Path) -> Run:
        return self.exchange.open({SHA256: self.file}, folder, writes=1)

    def client_of(self, token: str) -> httpx.Client:
        client = cast(httpx.Client, TestClient(exchange_app(self.exchange)))
        client.headers["Authorization"] = f"Bearer {token}"
        return client

    def bring(self, path: str, content: bytes = b"text", *, place: str = "0", sha256: str | None = None) -> int:
        headers = {"X-Sha256": sha256 or hashlib.sha256(content).hexdigest()}
        return self.client.put(f"/v1/left/{place}/{path}", content=content, headers=headers).status_code


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path)


def test_files_go_whole_and_by_range(origin: Origin) -> None:
    assert origin.client.get(f"/v1/files/{SHA256}").content == CONTENT
    part = origin.client.get(f"/v1/files/{SHA256}", headers={"Range": "bytes=6990-"})
    assert (part.status_code, part.content) == (206, CONTENT[6990:])
    assert origin.client.get(f"/v1/files/{SHA256}", headers={"Range": "bytes=9999-"}).status_code == 416
    assert origin.client.get(f"/v1/files/{'0' * 64}").status_code == 404


@pytest.mark.parametrize("token", ["", "x", "Bearer"])
def test_nobody_comes_in_without_a_token(origin: Origin, token: str) -> None:
    stranger = origin.client_of(token)
    assert stranger.get(f"/v1/files/{SHA256}").status_code == 401
    assert stranger.post("/v1/beat").status_code == 401
    assert stranger.put("/v1/left/0/a", content=b"").status_code == 401
    assert stranger.get("/livez").status_code == 200


def test_what_is_brought_lies_in_its_place(origin: Origin) -> None:
    assert origin.bring("rows/base.json") == 204
    assert origin.bring("stderr.log", place="log") == 204
    assert (origin.run.folder / "0" / "rows" / "base.json").read_bytes() == b"text"


@pytest.mark.parametrize("path", ["..%2fx", "%2e%2e/x", "a%2f..%2f..%2f..%2fx", "%2fetc%2fx", quote("a\0b")])
def test_nothing_is_brought_to_elsewhere(origin: Origin, path: str, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert origin.bring(path) in (404, 405, 422)
    assert sorted(tmp_path.rglob("*")) in (before, sorted([*before, origin.run.folder]))


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["50%", "a%2fb", "%2e%2e%2fx", "100 % %41", "ä?#.json"])
async def test_a_name_stays_what_it_is(origin: Origin, name: str) -> None:
    headers = {"Authorization": f"Bearer {origin.run.token}", "X-Sha256": hashlib.sha256(b"text").hexdigest()}
    transport = httpx.ASGITransport(
        exchange_app(origin.exchange)
    )  # decodes a path once, as servers do; TestClient twice
    async with httpx.AsyncClient(transport=transport, base_url="http://exchange", headers=headers) as client:
        answer = await client.put(f"/v1/left/0/{quote(f'rows/{name}')}", content=b"text")
    assert answer.status_code == 204
    assert [file.name for file in (origin.run.folder / "0" / "rows").iterdir()] == [name]


def test_other_bytes_and_other_places_are_refused(origin: Origin) -> None:
    assert origin.bring("a", sha256="0" * 64) == 422
    assert origin.bring("a", place="1") == 404
    assert [path for path in origin.run.folder.rglob("*") if path.is_file()] == []


def test_more_than_a_run_may_bring_is_refused(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    assert origin.bring("a", b"123456") == 204
    assert origin.bring("b", b"123456") == 413


def test_what_comes_after_the_end_changes_nothing(origin: Origin, tmp_path: Path) -> None:
    later = origin.open(tmp_path / "later")
    assert origin.bring("a") == 204
    origin.exchange.close(origin.run)
    assert origin.bring("a") == 401
    assert origin.client.post("/v1/beat").status_code == 401
    assert not origin.run.folder.exists()
    assert origin.client_of(later.token).post("/v1/beat").json() == {"stop": False}


def test_a_node_is_told_to_stop(origin: Origin) -> None:
    origin.run.stopping = True
    assert origin.client.post("/v1/beat").json() == {"stop": True}


def tree(name: str = "base", *, sha256: str = SHA256, is_folder: bool = True) -> Tree:
    file = TreeFile(path="model/weights" if is_folder else name, sha256=sha256, size_bytes=len(CONTENT))
    return Tree(name=name, is_folder=is_folder, files=(file,))


def test_a_node_keeps_what_it_has_fetched(origin: Origin, tmp_path: Path) -> None:
    kept = KeptFiles(tmp_path / "node", most_bytes=10**9)
    folder, file = tree(), tree("rows.jsonl", is_folder=False)
    places = kept.fetch([folder, file], origin.client)
    assert (places[folder.digest] / "model" / "weights").read_bytes() == CONTENT
    assert places[file.digest].name == "rows.jsonl"
    origin.exchange.close(origin.run)
    assert kept.fetch([folder, file], origin.client) == places


def test_a_file_goes_on_where_it_stopped(origin: Origin, tmp_path: Path) -> None:
    kept = KeptFiles(tmp_path / "node", most_bytes=10**9)
    part = kept._store.part(SHA256, str(os.getpid()))
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:5000])
    asked = list[str | None]()
    origin.client.event_hooks["request"].append(lambda request: asked.append(request.headers.get("range")))
    kept.fetch([tree()], origin.client)
    assert asked == ["bytes=5000-"]


def test_bytes_that_are_something_else_are_not_taken(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    origin.file.write_bytes(CONTENT[::-1])
    with pytest.raises(OutsideError, match="did not give the file"):
        KeptFiles(tmp_path / "node", most_bytes=10**9).fetch([tree()], origin.client)


def test_what_was_used_longest_ago_goes_first(origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptFiles(tmp_path / "node", most_bytes=len(CONTENT) + 10)
    old = kept.fetch([tree()], origin.client)[tree().digest]
    other = b"x" * 5000
    origin.file.write_bytes(other)
    sha256 = hashlib.sha256(other).hexdigest()
    run = origin.exchange.open({sha256: origin.file}, tmp_path / "second", writes=0)
    second = Tree(name="b", is_folder=True, files=(TreeFile(path="x", sha256=sha256, size_bytes=len(other)),))
    client = origin.client_of(run.token)
    new = kept.fetch([second], client)[second.digest]  # nobody can say that the old one is not in use
    assert old.exists()
    assert new.exists()
    monkeypatch.setattr("gradients.cluster.fetching._IN_USE_SECONDS", -10.0)
    assert kept.trim() == len(CONTENT)
    assert not old.exists()
    assert new.exists()
