"""What a client makes of answers: those of the API, and those of what stands in front of it. The API itself is tried in tests/e2e."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from gradients.client.answers import ApiRefused
from gradients.client.api import MarketClient
from gradients.client.models import TaskEvent
from gradients.errors import PeerUnreachable
from gradients.testing.loopback_site import Answer, Page, loopback_site, pages
from tests.unit.client import answers

PATH = "/v1/tasks/instruct-000000000001"


@contextlib.contextmanager
def client_of(answer: Answer) -> Iterator[MarketClient]:
    """A client of an API that answers so."""
    with loopback_site(answer) as site, MarketClient(site.url, "x") as client:
        yield client


def _page(body: object, *, status: int = 200) -> Page:
    return Page([json.dumps(body).encode()], status=status)


def test_fields_of_a_newer_validator_are_passed_over() -> None:
    told = {**answers.task(answers.miner()).model_dump(mode="json"), "mood": "sunny"}
    with client_of(pages({PATH: _page(told)})) as client:
        assert client.task("instruct-000000000001") == answers.task(answers.miner())


def test_a_refusal_keeps_the_apis_words() -> None:
    refusal = {"code": "not_found", "message": "There is no task x", "fix": "List yours"}
    with client_of(pages({PATH: _page(refusal, status=404)})) as client, pytest.raises(ApiRefused) as caught:
        client.task("instruct-000000000001")
    assert (caught.value.code, caught.value.message, caught.value.fix) == tuple(refusal.values())


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (Page([b"<html>"], status=502), f"GET {PATH} was answered with 502"),
        (Page([b"<html>"]), f"GET {PATH} was answered with 200 but not with a TaskDetails: Invalid JSON"),
        (_page({"id": 3}), "not with a TaskDetails: id: Input should be a valid string"),
        (_page([]), "not with a TaskDetails: Input should be an object"),
    ],
)
def test_what_is_not_an_answer_of_the_api_is_said_to_be_none(page: Page, said: str) -> None:
    with client_of(pages({PATH: page})) as client, pytest.raises(ApiRefused) as caught:
        client.task("instruct-000000000001")
    assert said in caught.value.message
    assert caught.value.code == "api_refused"


def _event(id_: int, **data: object) -> str:
    told = {"id": id_, "at": 1.0, **data}
    return f"id: {id_}\nevent: task\ndata: {json.dumps(told)}\n\n"


def test_a_stream_that_breaks_goes_on_behind_the_last_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first connection ends after event 7, the second is answered by a proxy without a server, the third tells the end."""
    monkeypatch.setattr("gradients.client.api.REST_SECONDS", 0.0)
    stream = {"Content-Type": "text/event-stream"}
    told = iter(
        [
            Page([_event(7, kind="drawn").encode(), b"event: new\ndata: {}\n\n"], headers=stream),
            Page([b"<html>"], status=502),
            Page([_event(8, kind="state", state="scored").encode()], headers=stream),
        ]
    )
    with loopback_site(lambda _: next(told)) as site, MarketClient(site.url, "x") as client:
        heard = [event.id for event in client.events("instruct-000000000001") if isinstance(event, TaskEvent)]
        asked = [request.headers["last-event-id"] for request in site.requests]
    assert (heard, asked) == ([7, 8], ["0", "7", "7"])


def test_a_request_too_many_is_made_again_when_its_time_has_come() -> None:
    refusal = {"code": "too_many_requests", "message": "Too many", "fix": None}
    busy = Page([json.dumps(refusal).encode()], status=429, headers={"Retry-After": "0"})
    too_long = Page([json.dumps(refusal).encode()], status=429, headers={"Retry-After": "61"})
    later = Page([json.dumps(refusal).encode()], status=429, headers={"Retry-After": "1"})
    told = iter([later, _page(answers.task().model_dump(mode="json")), too_long, busy])
    with client_of(lambda _: next(told)) as client:
        assert client.task("instruct-000000000001") == answers.task()
        for seconds in (61.0, 0.0):
            with pytest.raises(ApiRefused) as caught:
                client.task("instruct-000000000001")
            assert (caught.value.status, caught.value.retry_after_seconds) == (429, seconds)


def test_an_id_cannot_leave_its_place_in_a_path() -> None:
    with loopback_site(pages({})) as site, MarketClient(site.url, "x") as client:
        with pytest.raises(ApiRefused):
            client.task("../datasets?x=1")
        assert [request.path for request in site.requests] == ["/v1/tasks/..%2Fdatasets%3Fx%3D1"]


def _model(files: Mapping[str, bytes], sent: bytes) -> Mapping[str, Page]:
    listed = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        for name, content in files.items()
    }
    best = f"{PATH}/models/best"
    return {best: _page({"hotkey": "5Miner", "files": listed}), f"{PATH}/models/5Miner/model.bin": Page([sent])}


def test_a_file_is_in_its_place_when_it_is_what_was_announced_and_only_then(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"older")
    damaged, sound = (pages(_model({"model.bin": b"weights"}, sent)) for sent in (b"weight!", b"weights"))
    with client_of(damaged) as client, pytest.raises(PeerUnreachable, match="arrived damaged"):
        client.download("instruct-000000000001", client.model("instruct-000000000001", "best"), tmp_path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("model.bin", b"older")]
    with client_of(sound) as client:
        client.download("instruct-000000000001", client.model("instruct-000000000001", "best"), tmp_path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("model.bin", b"weights")]
