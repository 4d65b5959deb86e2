"""Both clients and the command upload large files in pieces, and go on after breaks, restarts and damage."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from gradients.cli.task import app
from gradients.client.aio import AsyncMarketClient
from gradients.client.answers import ApiRefused
from gradients.client.api import MarketClient
from gradients.client.requests import MOST_SILENT_SECONDS, PIECE_TYPE
from gradients.client.uploading import PIECE_BYTES, TUS, Course, begin_headers
from gradients.testing.loopback_site import Page, Request, loopback_site
from tests.e2e.api_market import Market
from validator.api.uploads import Uploads
from validator.api.writing import Turns

PATIENCE = 300.0
CARRIED = ("authorization", "content-type", "tus-resumable")


@pytest.fixture
def roomy(market: Market) -> Market:
    """A market that takes files of more than a piece."""
    before = market.app.state.dependencies
    uploads = Uploads(market.folders.uploads, market.ledger.uploads, 1 << 30, 1 << 30)
    market.app.state.dependencies = replace(before, uploads=uploads)
    return market


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A file of two pieces and a half."""
    file, line = tmp_path / "big.jsonl", b'{"instruction": "a", "output": "%07d"}\n'
    with file.open("wb") as stream:
        for number in range(PIECE_BYTES * 5 // 2 // len(line % 0)):
            stream.write(line % number)
    return file


def name_of(file: Path) -> str:
    return f"upload:{hashlib.sha256(file.read_bytes()).hexdigest()}.jsonl"


def test_a_large_file_goes_in_pieces_and_is_not_sent_again(roomy: Market, big: Path) -> None:
    told = list[tuple[int, int]]()
    key = roomy.ledger.customers.issue("acme")
    with MarketClient(roomy.url, key, on_upload=lambda _, sent, size: told.append((sent, size))) as client:
        assert client.upload(big) == client.upload(big) == name_of(big)
        [standing] = client.uploads()
    size = big.stat().st_size
    assert told == [(PIECE_BYTES, size), (2 * PIECE_BYTES, size), (size, size)]
    assert (standing.dataset, standing.offset) == (name_of(big), size)
    assert (roomy.folders.uploads / name_of(big).removeprefix("upload:")).read_bytes() == big.read_bytes()


def test_another_process_goes_on_where_the_first_one_stopped(roomy: Market, big: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(_: str, sent: int, __: int) -> None:
        raise Stopped(sent)

    key = roomy.ledger.customers.issue("acme")
    with MarketClient(roomy.url, key, on_upload=stop) as client, pytest.raises(Stopped):
        client.upload(big)
    told = list[int]()
    with MarketClient(roomy.url, key, on_upload=lambda _, sent, __: told.append(sent)) as client:
        assert [each.offset for each in client.uploads()] == [PIECE_BYTES]
        assert client.upload(big) == name_of(big)
    assert told == [2 * PIECE_BYTES, big.stat().st_size]


def test_both_clients_go_on_after_broken_connections_and_damaged_pieces(roomy: Market, big: Path) -> None:
    key = roomy.ledger.customers.issue("acme")

    async def uploaded(url: str) -> str:
        async with AsyncMarketClient(url, key) as client:
            return await client.upload(big)

    with poor_line(roomy.url) as url, MarketClient(url, key) as client:
        assert client.upload(big) == name_of(big)
    big.write_bytes(big.read_bytes() + b'{"instruction": "b", "output": "c"}\n')
    with poor_line(roomy.url) as url:
        assert asyncio.run(uploaded(url)) == name_of(big)


@pytest.mark.parametrize("kind", ["waiting", "asyncio"])
def test_a_file_that_another_process_sends_is_waited_for(roomy: Market, big: Path, kind: str) -> None:
    """It goes on sending only when this one has been refused its place."""
    before = roomy.app.state.dependencies
    turns = Turns(quiet_seconds=1e9, wait_seconds=0.0)
    roomy.app.state.dependencies = replace(before, uploads=replace(before.uploads, turns=turns))
    content, refused = big.read_bytes(), threading.Event()
    begun = begin_headers(big, len(content), sha256=hashlib.sha256(content).hexdigest())
    where = roomy.acme.post("/v1/uploads", headers=begun).headers["Location"]

    def slow() -> Iterator[bytes]:
        yield content[:1000]
        assert refused.wait(PATIENCE)
        yield content[1000:]

    def send() -> httpx.Response:
        piece = {**TUS, "Content-Type": PIECE_TYPE, "Upload-Offset": "0"}
        return roomy.acme.patch(where, content=slow(), headers=piece, timeout=PATIENCE)

    def note(response: httpx.Response) -> None:
        if response.status_code == httpx.codes.LOCKED:
            refused.set()

    async def note_it(response: httpx.Response) -> None:
        note(response)

    key, told = roomy.ledger.customers.issue("acme"), list[int]()

    async def uploaded() -> str:
        async with AsyncMarketClient(roomy.url, key, on_upload=lambda _, sent, __: told.append(sent)) as client:
            client._http.event_hooks["response"].append(note_it)
            return await client.upload(big)

    with ThreadPoolExecutor(1) as pool, roomy.client("acme") as looking:
        sending = pool.submit(send)
        while not sending.done() and looking.get(where).json()["offset"] < 1000:
            time.sleep(0.01)
        if kind == "asyncio":
            dataset = asyncio.run(uploaded())
        else:
            with MarketClient(roomy.url, key, on_upload=lambda _, sent, __: told.append(sent)) as client:
                client._http.event_hooks["response"].append(note)
                dataset = client.upload(big)
        assert sending.result().status_code == httpx.codes.NO_CONTENT
    assert (dataset, told) == (name_of(big), [])


def test_a_client_gives_up_when_nothing_moves_and_not_before() -> None:
    course = Course(0, 0.0)
    assert not course.is_still(now=MOST_SILENT_SECONDS)
    assert course.is_still(now=MOST_SILENT_SECONDS + 1)
    assert course.moves(5, now=100.0)
    assert not course.moves(5, now=150.0)
    assert not course.is_still(now=100.0 + MOST_SILENT_SECONDS)
    assert course.moves(3, now=1000.0)  # a piece that broke off without its checksum
    assert not course.is_still(now=1000.0)


def test_a_file_that_changes_under_way_is_told_of(roomy: Market, big: Path) -> None:
    def change(_: str, sent: int, __: int) -> None:
        if sent == PIECE_BYTES:
            content = bytearray(big.read_bytes())
            content[-5:-3] = b"xx"
            big.write_bytes(content)

    key = roomy.ledger.customers.issue("acme")
    with MarketClient(roomy.url, key, on_upload=change) as client, pytest.raises(ApiRefused) as caught:
        client.upload(big)
    assert caught.value.code == "upload_digest_wrong"


def test_the_commands_upload_list_and_drop(roomy: Market, big: Path, tmp_path: Path) -> None:
    key = roomy.ledger.customers.issue("acme")
    small = tmp_path / "small.jsonl"
    small.write_text('{"instruction": "a", "output": "b"}\n')

    def task(*arguments: str) -> str:
        run = CliRunner().invoke(app, [*arguments, "--api-url", roomy.url, "--api-key", key], catch_exceptions=False)
        assert run.exit_code == 0, run.output
        return run.stdout.strip()

    assert task("upload", str(big)) == name_of(big)
    assert json.loads(task("upload", str(small), "--json")) == {"dataset": name_of(small)}
    listed = task("uploads")
    assert listed.endswith(f"big.jsonl  {name_of(big)}")
    assert task("uploads", "--drop", listed.split()[0]) == ""
    assert roomy.acme.get("/v1/account").json()["upload_bytes"]["used"] == big.stat().st_size + small.stat().st_size


@contextlib.contextmanager
def poor_line(target: str) -> Iterator[str]:
    """A way to the API on which the first piece is lost, the answer to the second is lost, and the third is damaged."""
    pieces = [0]

    def carried(request: Request) -> Page:
        headers = {
            name: value for name, value in request.headers.items() if name in CARRIED or name.startswith("upload-")
        }
        is_piece = "upload-offset" in headers
        method = "PATCH" if is_piece else "POST" if "upload-length" in headers else "GET"
        content = request.body
        pieces[0] += is_piece
        if is_piece and pieces[0] == 1:
            raise ConnectionError("the piece is lost")
        if is_piece and pieces[0] == 3:
            content = content[:-1] + b"?"
        answer = httpx.request(method, target + request.path, headers=headers, content=content, trust_env=False)
        if is_piece and pieces[0] == 2:
            raise ConnectionError("the answer is lost")
        return Page(
            [answer.content], status=answer.status_code, headers={"Location": answer.headers.get("Location", "")}
        )

    with loopback_site(carried) as site:
        yield site.url
