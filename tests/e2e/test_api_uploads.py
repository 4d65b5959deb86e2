"""Uploads in pieces over the customers' API, by hand as tus 1.0 says it and by a stranger's client."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

import httpx
import pytest
from tusclient.client import TusClient

from gradients.testing.clock import HandClock
from tests.e2e.api_market import MAX_UPLOAD_BYTES, Market, refusal_of
from validator.api.resumable import MOST_UNFINISHED
from validator.api.uploads import Uploads
from validator.api.writing import Turns

TUS = {"Tus-Resumable": "1.0.0"}
ROWS = b"".join(b'{"instruction": "number %d", "output": "b"}\n' % i for i in range(200))
PATIENCE = 120.0


def encoded(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def begin(
    market: Market,
    size: int = len(ROWS),
    *,
    name: str = "rows.jsonl",
    sha256: str | None = None,
    by: httpx.Client | None = None,
) -> httpx.Response:
    metadata = f"filename {encoded(name)}" + (f",sha256 {encoded(sha256)}" if sha256 else "")
    headers = {**TUS, "Upload-Length": str(size), "Upload-Metadata": metadata}
    return (by or market.acme).post("/v1/uploads", headers=headers)


def send(market: Market, where: str, content: bytes, *, offset: int, **headers: str) -> httpx.Response:
    kind = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
    return market.acme.patch(where, content=content, headers={**TUS, **kind, **headers})


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def uploads_of(market: Market) -> Uploads:
    found: Uploads = market.app.state.dependencies.uploads
    return found


def change_uploads(market: Market, **changes: object) -> None:
    """Until the test ends, uploads go by other limits."""
    before = market.app.state.dependencies
    market.app.state.dependencies = replace(before, uploads=replace(before.uploads, **changes))


def test_a_file_comes_in_pieces_and_is_a_data_set_in_the_end(market: Market) -> None:
    digest = hashlib.sha256(ROWS).hexdigest()
    begun = begin(market, sha256=digest)
    where = begun.headers["Location"]
    assert (begun.status_code, begun.headers["Tus-Resumable"], begun.headers["Upload-Offset"]) == (201, "1.0.0", "0")
    first = send(market, where, ROWS[:3000], offset=0)
    assert (first.status_code, first.headers["Upload-Offset"], "Gradients-Dataset" in first.headers) == (
        204,
        "3000",
        False,
    )
    stands = market.acme.head(where, headers=TUS)
    assert (stands.headers["Upload-Offset"], stands.headers["Upload-Length"]) == ("3000", str(len(ROWS)))
    assert stands.headers["Cache-Control"] == "no-store"
    assert market.acme.get(where).json()["dataset"] is None
    last = send(market, where, ROWS[3000:], offset=3000)
    assert last.headers["Gradients-Dataset"] == f"upload:{digest}.jsonl" == market.acme.get(where).json()["dataset"]
    assert (market.folders.uploads / f"{digest}.jsonl").read_bytes() == ROWS
    assert list((market.folders.uploads / "unfinished").iterdir()) == []
    posted = market.acme.post("/v1/tasks", json=market.spec(dataset=f"upload:{digest}.jsonl"))
    assert posted.status_code == 201


def test_what_came_before_a_broken_connection_is_kept(market: Market) -> None:
    where = begin(market).headers["Location"]
    to = urlsplit(market.url)
    with socket.create_connection((to.hostname or "", to.port or 0)) as line:
        head = [
            f"PATCH {where} HTTP/1.1",
            "Host: x",
            f"Authorization: {market.acme.headers['Authorization']}",
            "Tus-Resumable: 1.0.0",
            "Upload-Offset: 0",
            "Content-Type: application/offset+octet-stream",
            f"Content-Length: {len(ROWS)}",
        ]
        line.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + ROWS[:5000])
        eventually(lambda: market.acme.get(where).json()["offset"] == 5000)
    eventually(lambda: send(market, where, ROWS[5000:], offset=5000).status_code == 204)
    assert market.acme.get(where).json()["dataset"] is not None


def test_a_later_request_ends_an_earlier_one_whose_line_is_dead(market: Market) -> None:
    """The first says nothing more, and keeps its connection open. Here the shortest silence will do."""
    change_uploads(market, turns=Turns(quiet_seconds=0.0, wait_seconds=PATIENCE))
    where = begin(market).headers["Location"]

    def half() -> object:
        yield ROWS[:4000]
        gone.wait(PATIENCE)
        yield b""

    gone, answers = threading.Event(), list[httpx.Response]()
    kind = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    with market.client(None) as slow:
        slow.headers.update(market.acme.headers)
        patching = threading.Thread(
            target=lambda: answers.append(slow.patch(where, content=half(), headers={**TUS, **kind}, timeout=PATIENCE))  # type: ignore[arg-type]  # an iterator of bytes
        )
        patching.start()
        eventually(lambda: market.acme.get(where).json()["offset"] == 4000)
        assert send(market, where, ROWS[4000:], offset=4000).status_code == 204
        gone.set()
        patching.join(PATIENCE)
    assert [answer.status_code for answer in answers] == [423]
    assert market.acme.get(where).json()["dataset"] == f"upload:{hashlib.sha256(ROWS).hexdigest()}.jsonl"


def test_no_piece_takes_the_room_that_the_disk_keeps(market: Market) -> None:
    """Announced while there was room; others have taken it since."""
    where = begin(market).headers["Location"]
    send(market, where, ROWS[:100], offset=0)
    change_uploads(market, kept_bytes=1 << 62)
    assert refusal_of(send(market, where, ROWS[100:], offset=100), 500)["code"] == "disk_full"
    assert refusal_of(market.upload(), 500)["code"] == "disk_full"  # as in one piece
    assert market.acme.get(where).json()["offset"] == 100


def test_an_upload_whose_part_was_lost_begins_again(market: Market) -> None:
    """A ledger was restored, and the folder of unfinished uploads was not."""
    where = begin(market).headers["Location"]
    send(market, where, ROWS[:100], offset=0)
    shutil.rmtree(uploads_of(market).unfinished_folder)
    assert market.acme.get(where).json()["offset"] == 0
    assert send(market, where, ROWS, offset=0).headers["Gradients-Dataset"].startswith("upload:")


def test_a_piece_that_begins_elsewhere_is_refused_and_changes_nothing(market: Market) -> None:
    where = begin(market).headers["Location"]
    send(market, where, ROWS[:100], offset=0)
    for offset in (0, 99, 101):
        assert refusal_of(send(market, where, b"x", offset=offset), 409)["code"] == "upload_offset_wrong"
    assert market.acme.get(where).json()["offset"] == 100


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_piece_without_its_checksum_is_not_kept(market: Market, algorithm: str) -> None:
    where = begin(market).headers["Location"]
    right = f"{algorithm} {encoded(hashlib.new(algorithm, ROWS[:100]).digest())}"
    assert send(market, where, ROWS[:100], offset=0, **{"Upload-Checksum": right}).status_code == 204
    damaged = send(market, where, ROWS[:100], offset=100, **{"Upload-Checksum": right.replace(right[-9:-2], "AAAAAAA")})
    assert refusal_of(damaged, 460)["code"] == "upload_checksum_wrong"
    assert market.acme.get(where).json()["offset"] == 100


def test_a_whole_file_without_its_announced_digest_is_dropped(market: Market) -> None:
    where = begin(market, sha256="0" * 64).headers["Location"]
    assert refusal_of(send(market, where, ROWS, offset=0), 460)["code"] == "upload_digest_wrong"
    assert refusal_of(market.acme.get(where), 404)["code"] == "upload_unknown"
    assert market.ledger.uploads.held_bytes("acme") == 0
    assert [file for file in market.folders.uploads.rglob("*") if file.is_file()] == []


def test_limits_hold_before_a_byte_has_come(market: Market) -> None:
    """The quota is three files of the largest size."""
    assert refusal_of(begin(market, MAX_UPLOAD_BYTES + 1), 413)["code"] == "upload_too_large"
    assert [begin(market, MAX_UPLOAD_BYTES).status_code for _ in range(3)] == [201] * 3
    refusal = refusal_of(begin(market, 1), 413)
    assert (refusal["code"], "your uploads are larger" in refusal["message"]) == ("upload_too_large", True)
    assert refusal_of(market.upload(), 413)["code"] == "upload_too_large"  # in one piece neither
    assert market.acme.get("/v1/account").json()["upload_bytes"]["used"] == 3 * MAX_UPLOAD_BYTES
    newest = market.acme.get("/v1/uploads").json()["uploads"][0]["id"]
    assert market.acme.delete(f"/v1/uploads/{newest}", headers=TUS).status_code == 204
    assert market.upload().status_code == 201


def test_an_upload_has_a_byte_at_least(market: Market) -> None:
    assert refusal_of(begin(market, 0), 422)["code"] == "task_invalid"
    assert market.acme.get("/v1/uploads").json() == {"uploads": []}


def test_more_bytes_than_were_announced_are_not_taken(market: Market) -> None:
    where = begin(market, 50).headers["Location"]
    assert refusal_of(send(market, where, ROWS[:51], offset=0), 413)["code"] == "upload_too_large"
    assert market.acme.get(where).json()["offset"] <= 50


def test_unfinished_ones_are_counted(market: Market) -> None:
    assert {begin(market, 1).status_code for _ in range(MOST_UNFINISHED)} == {201}
    assert refusal_of(begin(market, 1), 429)["code"] == "too_many_uploads"


def test_an_upload_is_its_customers_alone(market: Market) -> None:
    where, rival = begin(market).headers["Location"], market.client("rival")
    for method in ("GET", "HEAD", "PATCH", "DELETE"):
        kind = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
        answer = rival.request(method, where, headers={**TUS, **(kind if method == "PATCH" else {})})
        assert answer.status_code == 404, method
    assert rival.get("/v1/uploads").json() == {"uploads": []}
    assert [each["offset"] for each in market.acme.get("/v1/uploads").json()["uploads"]] == [0]


@pytest.mark.parametrize("written", [0, 3, len(ROWS)])
def test_a_validator_that_was_killed_goes_on_where_the_disk_stands(market: Market, written: int) -> None:
    """Bytes were written and nothing was said: neither in the ledger nor to the caller."""
    begun = begin(market, sha256=hashlib.sha256(ROWS).hexdigest()).headers["Location"]
    (uploads_of(market).unfinished_folder / begun.rpartition("/")[2]).write_bytes(ROWS[:written])
    assert market.acme.head(begun, headers=TUS).headers["Upload-Offset"] == str(written)
    if written < len(ROWS):
        assert send(market, begun, ROWS[written:], offset=written).status_code == 204
    assert market.acme.get(begun).json()["dataset"] == f"upload:{hashlib.sha256(ROWS).hexdigest()}.jsonl"
    assert (market.folders.uploads / f"{hashlib.sha256(ROWS).hexdigest()}.jsonl").read_bytes() == ROWS


def test_a_validator_that_was_killed_between_claim_and_name_gives_the_name(market: Market) -> None:
    begun = begin(market).headers["Location"]
    unfinished, upload_id = market.ledger.uploads.unfinished, begun.rpartition("/")[2]
    (uploads_of(market).unfinished_folder / upload_id).write_bytes(ROWS)
    upload = unfinished.find("acme", upload_id)
    assert upload is not None
    unfinished.finish(upload, name := f"{hashlib.sha256(ROWS).hexdigest()}.jsonl")
    assert market.acme.get(begun).json()["dataset"] == f"upload:{name}"
    assert (market.folders.uploads / name).read_bytes() == ROWS
    assert market.ledger.uploads.held_bytes("acme") == len(ROWS)


def test_abandoned_ones_are_swept_and_give_their_room_back(market: Market) -> None:
    market.ledger.uploads.unfinished._clock = clock = HandClock(time.time())
    old = begin(market, 500).headers["Location"]
    clock.time += 80_000
    young, whole = (begin(market, 50).headers["Location"] for _ in range(2))
    send(market, whole, ROWS[:50], offset=0)
    clock.time += 10_000
    uploads = uploads_of(market)
    assert market.ledger.uploads.held_bytes("acme") == 600
    uploads.drop_unfinished()
    assert market.acme.get(old).status_code == 404
    assert market.acme.get(young).json()["offset"] == 0
    assert market.ledger.uploads.held_bytes("acme") == 100
    clock.time += 90_000
    (uploads.unfinished_folder / ("0" * 32)).write_bytes(b"of a killed process")
    clock.time += time.time()  # files have the time of this machine
    uploads.drop_unfinished()
    assert list(uploads.unfinished_folder.iterdir()) == []
    assert market.ledger.uploads.held_bytes("acme") == 50  # what is whole stays


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 412, "tus_version_unknown"),
        ({"Tus-Resumable": "0.2.2"}, 412, "tus_version_unknown"),
        ({**TUS, "Content-Type": "text/plain"}, 415, "upload_not_binary"),
        ({**TUS, "Upload-Checksum": "md5 AAAA"}, 422, "upload_invalid"),
        ({**TUS, "Upload-Checksum": "sha1 AAAA"}, 422, "upload_invalid"),
        ({**TUS, "Upload-Checksum": "sha1 ?"}, 422, "upload_invalid"),
        ({**TUS, "Upload-Offset": "-1"}, 422, "task_invalid"),
    ],
)
def test_a_piece_that_does_not_follow_the_protocol_is_refused(
    market: Market, headers: dict[str, str], status: int, code: str
) -> None:
    where = begin(market).headers["Location"]
    usual = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    answer = market.acme.patch(where, content=b"x", headers={**usual, **headers})
    assert refusal_of(answer, status)["code"] == code
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert ("Tus-Version" in answer.headers) == (status == 412)
    assert market.acme.get(where).json()["offset"] == 0


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ("", "names no file"),
        ("filename ?", "not base64"),
        (f"filename {encoded('rows.exe')}", "no ending of a data set"),
        (f"filename {encoded('a.jsonl')},sha256 {encoded('x')}", "not a sha256"),
    ],
)
def test_an_upload_needs_a_name_with_a_known_ending(market: Market, metadata: str, said: str) -> None:
    headers = {**TUS, "Upload-Length": "10", "Upload-Metadata": metadata}
    assert said in refusal_of(market.acme.post("/v1/uploads", headers=headers), 422)["message"]


def test_what_is_spoken_is_told_without_a_key(market: Market) -> None:
    answer = httpx.options(f"{market.url}/v1/uploads", trust_env=False)
    assert (answer.status_code, answer.headers["Tus-Version"]) == (204, "1.0.0")
    assert answer.headers["Tus-Max-Size"] == str(MAX_UPLOAD_BYTES)
    assert set(answer.headers["Tus-Extension"].split(",")) == {"creation", "expiration", "checksum", "termination"}


@pytest.mark.parametrize(("chunk", "checksums"), [(1 << 30, False), (1999, False), (1999, True)])
def test_a_strangers_client_uploads_and_goes_on(market: Market, chunk: int, checksums: bool) -> None:
    """tuspy, by itself and from where another run of it has stopped."""
    client = TusClient(f"{market.url}/v1/uploads", headers={"Authorization": market.acme.headers["Authorization"]})
    asked = {"chunk_size": chunk, "metadata": {"filename": "rows.jsonl"}, "upload_checksum": checksums}
    first = client.uploader(file_stream=io.BytesIO(ROWS), **asked)
    first.upload(stop_at=4000)
    assert market.acme.get(urlsplit(str(first.url)).path).json()["offset"] == 4000
    second = client.uploader(file_stream=io.BytesIO(ROWS), url=first.url, **asked)
    assert second.offset == 4000
    second.upload()
    found = market.acme.get(urlsplit(str(first.url)).path).json()
    assert found["dataset"] == f"upload:{hashlib.sha256(ROWS).hexdigest()}.jsonl"
