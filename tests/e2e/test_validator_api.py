"""The customers' API over real HTTP: keys, uploads, specs, and what a customer sees of a task and when."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import cast

import httpx
import pytest
from datasets import Dataset
from pydantic import JsonValue
from sqlalchemy import text
from structlog.testing import capture_logs

from gradients.bases.bases import BaseModels
from gradients.client.api import MarketClient
from gradients.conditions.state import Conditions
from gradients.datasets.reading import read_rows
from gradients.datasets.sources import parts_of
from gradients.doctor.findings import Finding
from gradients.domain.json import Json, JsonObject
from gradients.domain.task import TaskId
from gradients.errors import DiskFull
from gradients.testing.axons import serving_in_thread
from tests.e2e.api_market import (
    ALICE,
    BOB,
    DELIVERED,
    LAYER,
    MAX_UPLOAD_BYTES,
    PREPARED,
    ROWS,
    Market,
    dependencies_of,
    refusal_of,
)
from validator.api.app import api_app
from validator.api.bodies import MOST_BYTES
from validator.api.uploads import Uploads
from validator.folders import Folders
from validator.settings import ApiSettings


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/tasks"),
        ("POST", "/v1/tasks"),
        ("GET", "/v1/tasks/instruct-0123456789ab"),
        ("GET", "/v1/tasks/instruct-0123456789ab/models/best"),
        ("GET", "/v1/tasks/instruct-0123456789ab/models/best/adapter_model.safetensors"),
        ("GET", "/v1/tasks/instruct-0123456789ab/contact-sheet"),
        ("GET", "/v1/tasks/instruct-0123456789ab/rows"),
        ("GET", "/v1/tasks/instruct-0123456789ab/rows/1"),
        ("POST", "/v1/datasets?name=rows.jsonl"),
        ("POST", "/v1/estimates"),
        ("POST", "/v1/tasks/instruct-0123456789ab/cancel"),
        ("GET", "/v1/tasks/instruct-0123456789ab/events"),
    ],
)
@pytest.mark.parametrize("key", [None, "Bearer gr_guessed", "Basic YTpi"])
def test_every_route_wants_a_key(market: Market, method: str, path: str, key: str | None) -> None:
    headers = {"Authorization": key} if key else {}
    with market.client(None) as stranger:
        answer = stranger.request(method, path, headers=headers, json={} if method == "POST" else None)
    assert refusal_of(answer, 401)["code"] == "key_refused"


def test_a_revoked_key_opens_nothing(market: Market) -> None:
    key = market.ledger.customers.issue("former")
    headers = {"Authorization": f"Bearer {key}"}
    assert httpx.get(f"{market.url}/v1/tasks", headers=headers, timeout=120, trust_env=False).status_code == 200
    market.ledger.customers.revoke(key)
    assert httpx.get(f"{market.url}/v1/tasks", headers=headers, timeout=120, trust_env=False).status_code == 401


def test_health_is_for_everybody_and_readiness_is_the_daemons(market: Market) -> None:
    with market.client(None) as stranger:
        assert stranger.get("/livez").json()["alive"] is True
        assert stranger.get("/readyz").status_code == 503  # nothing has been looked at yet
        market.conditions.update("subnet", [Finding("permit", "ok", "there")])
        assert stranger.get("/readyz").status_code == 200
        assert "python_info" in stranger.get("/metrics").text
        market.conditions.update("subnet", [Finding("permit", "missing", "none", "stake more on it")])
        assert (stranger.get("/readyz").status_code, stranger.get("/livez").status_code) == (503, 200)
        [condition] = stranger.get("/readyz").json()["conditions"]
        assert condition == {"name": "permit", "level": "missing", "found": "none", "advice": "stake more on it"}


def test_an_upload_is_named_by_what_it_holds_and_can_be_used(market: Market) -> None:
    answer = market.upload()
    name = f"upload:{hashlib.sha256(ROWS).hexdigest()}.jsonl"
    assert (answer.status_code, answer.json()) == (201, {"dataset": name, "customer": "acme"})
    task = market.acme.post("/v1/tasks", json=market.spec(dataset=name)).json()
    created = market.ledger.tasks.find(task["id"])
    assert created is not None
    assert Path(str(created.request.dataset["path"])).read_bytes() == ROWS


def test_a_spec_without_hours_is_estimated_and_not_posted(market: Market) -> None:
    """80 rows count 64 tokens each at least: on a base of 100,000 weights they are done in no time: the quarter after 0.75."""
    rows = [{"instruction": f"Which letter has number {i}?", "output": f"It is letter {i}"} for i in range(80)]
    name = market.upload("\n".join(map(json.dumps, rows)).encode()).json()["dataset"]
    spec = {key: value for key, value in market.spec(dataset=name).items() if key != "hours"}
    answer = market.acme.post("/v1/estimates", json=spec, timeout=120)
    assert answer.status_code == 200, answer.text
    estimate = answer.json()
    assert (estimate["type"], estimate["base"], estimate["rows"], estimate["gpus"]) == ("instruct", "tiny", 80, 1)
    assert (estimate["hours"], estimate["tokens"]) == (1.0, 80 * 64)
    assert (estimate["hours_by_rows"]["shortest"], estimate["hours_by_rows"]["longest"]) == (1, 3)
    assert estimate["parameters"] > 50_000
    assert 5 < estimate["measured"]["tokens_per_row"] < 64
    assert estimate["measured"]["tokens_per_second"] > 0
    assert (market.posted, market.ledger.tasks.count()) == ([], 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"type": "chant"}, "no task type"),
        ({"dataset": "/etc/hosts.csv"}, "cannot name files"),
        ({"base": "nix"}, "nix"),
        ({"type": "diffusion"}, "tiny is not an image model"),
    ],
)
def test_a_spec_that_cannot_be_run_has_no_estimate(market: Market, changes: dict[str, object], said: str) -> None:
    assert said in refusal_of(market.acme.post("/v1/estimates", json=market.spec(**changes)), 422)["message"]


def test_a_contact_sheet_can_be_had_by_its_customer_once_the_task_is_scored(market: Market) -> None:
    task_id, _ = market.measured_task()
    sheet = market.folders.contact_sheet(task_id)
    sheet.parent.mkdir(parents=True)
    sheet.write_bytes(b"\x89PNG of measured")
    assert market.acme.get(f"/v1/tasks/{task_id}/contact-sheet").status_code == 404
    assert market.acme.get(f"/v1/tasks/{market.scored_task()}/contact-sheet").status_code == 404  # of text: none


def test_a_scored_tasks_contact_sheet_is_a_picture(market: Market) -> None:
    task_id = market.scored_task()
    sheet = market.folders.contact_sheet(task_id)
    sheet.parent.mkdir(parents=True, exist_ok=True)
    sheet.write_bytes(b"\x89PNG of all")
    answer = market.acme.get(f"/v1/tasks/{task_id}/contact-sheet")
    assert (answer.content, answer.headers["content-type"]) == (b"\x89PNG of all", "image/png")
    assert market.client("other").get(f"/v1/tasks/{task_id}/contact-sheet").status_code == 404


def test_the_command_line_brings_a_sheet_or_says_that_there_is_none(market: Market, tmp_path: Path) -> None:
    task_id = market.scored_task()
    key = market.ledger.customers.issue("acme")
    target = tmp_path / "pictures" / "sheet.png"
    command = [sys.executable, "-m", "gradients.cli", "task", "sheet", task_id, "--to", str(target), "--json"]

    def run() -> subprocess.CompletedProcess[str]:
        flags = ["--api-url", market.url, "--api-key", key]
        return subprocess.run([*command, *flags], capture_output=True, text=True, timeout=600, check=False)

    assert "has no contact sheet" in run().stdout + run().stderr
    assert not target.exists()
    sheet = market.folders.contact_sheet(task_id)
    sheet.parent.mkdir(parents=True)
    sheet.write_bytes(b"\x89PNG")
    brought = run()
    assert (brought.returncode, json.loads(brought.stdout)) == (0, {"file": str(target)})
    assert target.read_bytes() == b"\x89PNG"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("[/nope]", "[/nope]"),
        ("[red]x[/]", "[red]x[/]"),
        ("[link=http://evil]x", "[link=http://evil]x"),
        (":bomb:", ":bomb:"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("\x1b]8;;http://evil\x07here", "\\x1b]8;;http://evil\\x07here"),
        ("\x9b31mred", "\\x9b31mred"),
        ("a\nb\r", "a\\x0ab\\x0d"),
        ("\u202egnp", "\\u202egnp"),
    ],
)
def test_what_a_miner_says_is_shown_as_it_is_and_does_nothing_to_the_terminal(
    market: Market, words: str, shown: str
) -> None:
    """Said in a recipe and a reason, and written by a validator that had not mended it."""
    task_id = market.scored_task()
    with market.ledger.engine.begin() as connection:
        connection.execute(text("UPDATE submissions SET recipe = :words"), {"words": words})
        connection.execute(text("UPDATE placings SET reason = :words"), {"words": words})
    flags = ["--api-url", market.url, "--api-key", market.ledger.customers.issue("acme")]
    for command in (["show", task_id], ["watch", task_id], ["list"]):
        run = subprocess.run(
            [sys.executable, "-m", "gradients.cli", "task", *command, *flags],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": "200"},
        )
        assert run.returncode == 0, run.stderr
        assert "Traceback" not in run.stderr
        printed = re.sub(r"\x1b\[[0-9;]*m", "", run.stdout)  # without the table's own colours
        assert not set(printed) & set("\x00\x07\r\x1b\x9b\u202e")
        if command != ["list"]:
            assert printed.count(shown) == 3  # two recipes, and one reason below the table


def test_a_model_that_is_no_longer_kept_is_refused_with_since_when_and_its_task_is_still_shown(market: Market) -> None:
    task_id = market.scored_task()
    before = market.acme.get(f"/v1/tasks/{task_id}").json()["miners"][0]
    shutil.rmtree(market.folders.submission(task_id, ALICE))
    market.ledger.submissions.drop(task_id, ALICE)
    for path in ("models/best", f"models/{ALICE}", "models/best/archive.tar", "models/best/adapter_config.json"):
        refusal = refusal_of(market.acme.get(f"/v1/tasks/{task_id}/{path}"), 410)
        assert (refusal["code"], "is no longer kept since 20" in refusal["message"]) == ("no_longer_kept", True)
        assert refusal["fix"].startswith("Train it again")
    after = market.acme.get(f"/v1/tasks/{task_id}").json()["miners"][0]
    assert (before["repo"], before["dropped_at"]) == (f"/v1/tasks/{task_id}/models/{ALICE}", None)
    assert (after["rank"], after["repo"], after["dropped_at"] is None) == (1, None, False)


def test_the_same_upload_twice_is_one_file(market: Market) -> None:
    assert market.upload().json() == market.upload(name="other.jsonl").json()
    assert len(list(market.folders.uploads.iterdir())) == 1


def test_an_upload_is_its_senders_alone_and_nobody_learns_whether_others_have_it(market: Market) -> None:
    globex = market.client("globex")
    dataset = market.upload().json()["dataset"]
    unknown = dataset.replace(dataset[7:11], "0000")
    for path in ("/v1/tasks", "/v1/estimates"):
        refused = globex.post(path, json=market.spec(dataset=dataset))
        nothing = globex.post(path, json=market.spec(dataset=unknown))
        assert refusal_of(refused, 422)["message"] == refusal_of(nothing, 422)["message"].replace(unknown, dataset)
    assert market.upload(by=globex).json() == {"dataset": dataset, "customer": "globex"}
    assert len(list(market.folders.uploads.iterdir())) == 1
    assert globex.post("/v1/tasks", json=market.spec(dataset=dataset)).status_code == 201


def test_all_uploads_of_a_customer_together_have_a_limit_of_their_own(market: Market) -> None:
    files = [bytes([n]) * MAX_UPLOAD_BYTES for n in b"abcd"]
    assert [market.upload(file).status_code for file in (*files[:3], files[0])] == [
        201
    ] * 4  # the same one twice is one
    refusal = refusal_of(market.upload(files[3]), 413)
    assert (refusal["code"], "your uploads are larger than" in refusal["message"]) == ("upload_too_large", True)
    assert len(list(market.folders.uploads.iterdir())) == 3
    assert market.upload(files[3], by=market.client("globex")).status_code == 201


def test_an_upload_over_the_limit_is_refused_and_leaves_nothing(market: Market) -> None:
    assert market.upload(b"x" * MAX_UPLOAD_BYTES).status_code == 201
    refusal = refusal_of(market.upload(b"x" * (MAX_UPLOAD_BYTES + 1)), 413)
    assert refusal["code"] == "upload_too_large"
    assert len(list(market.folders.uploads.iterdir())) == 1


@pytest.mark.parametrize("name", ["rows.pkl", "rows", "../../rows.sh"])
def test_an_upload_of_another_kind_is_refused(market: Market, name: str) -> None:
    assert "Upload one of .jsonl, .json" in str(refusal_of(market.upload(name=name), 422)["fix"])


def test_an_upload_stays_in_its_folder_whatever_it_is_called(market: Market) -> None:
    assert market.upload(name="../../../etc/rows.csv").status_code == 201
    [file] = market.folders.uploads.iterdir()
    assert file.name == f"{hashlib.sha256(ROWS).hexdigest()}.csv"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"type": "chant"}, "There is no task type 'chant'"),
        ({"hours": 0}, "hours"),
        ({"hours": "soon"}, "hours"),
        ({"base": "no-such-model"}, "no-such-model"),
        ({"type": "diffusion"}, "tiny is not an image model"),
        ({"dataset": None}, "dataset"),
        ({"dataset": "hub:nothing"}, "dataset"),
        ({"dataset": "upload:" + "0" * 64 + ".jsonl"}, "There is no upload"),
        ({"dataset": "upload:../ledger.db"}, "is not a name that an upload was given"),
        ({"parameters": {"max_tokens": 3}}, "parameters.max_tokens"),
        ({"parameters": {"colums": {}}}, "parameters.colums"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_spec_that_cannot_be_run_is_refused_with_the_reason(
    market: Market, changes: dict[str, object], said: str
) -> None:
    assert said in refusal_of(market.acme.post("/v1/tasks", json=market.spec(**changes)), 422)["message"]
    assert (market.posted, market.ledger.tasks.count()) == ([], 0)


@pytest.mark.parametrize(
    "dataset",
    [
        "/etc/hosts.csv",
        "rows.jsonl",
        {"kind": "file", "path": "/etc/hosts.csv"},
        {"path": "rows.jsonl"},
        ["rows.jsonl"],
        3,
    ],
)
def test_a_customer_cannot_name_files_of_the_validators_machine(market: Market, dataset: object) -> None:
    answer = market.acme.post("/v1/tasks", json=market.spec(dataset=dataset))
    assert "cannot name files" in refusal_of(answer, 422)["message"]


@pytest.mark.parametrize("corpus", ["/etc/hosts.csv", {"kind": "file", "path": "/etc/hosts.csv"}, None])
def test_nor_by_a_parameter_that_says_where_data_is(market: Market, corpus: object) -> None:
    answer = market.acme.post("/v1/tasks", json=market.spec(type="rag", parameters={"corpus": corpus}))
    assert "cannot name files" in refusal_of(answer, 422)["message"]


def test_a_client_uploads_every_file_that_a_spec_names(market: Market, tmp_path: Path) -> None:
    rows, corpus = tmp_path / "rows.jsonl", tmp_path / "passages.jsonl"
    rows.write_bytes(ROWS)
    corpus.write_bytes(ROWS[::-1])
    spec = market.spec(type="rag", dataset=str(rows), parameters={"corpus": str(corpus)})
    with MarketClient(market.url, market.ledger.customers.issue("acme")) as client:
        task = client.submit(cast(dict[str, Json], spec))
    created = market.ledger.tasks.find(TaskId(task.id))
    assert created is not None
    sources = created.request.dataset, cast(JsonObject, created.request.parameters["corpus"])
    assert [Path(str(source["path"])).read_bytes() for source in sources] == [ROWS, ROWS[::-1]]
    assert {Path(str(source["path"])).parent for source in sources} == {market.folders.uploads}


def test_a_client_uploads_a_folder_that_datasets_saved_as_one_file(market: Market, tmp_path: Path) -> None:
    rows = [{"instruction": f"Say {number}", "output": str(number)} for number in range(100)]
    Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    with MarketClient(market.url, market.ledger.customers.issue("acme")) as client:
        task = client.submit(cast(dict[str, Json], market.spec(dataset=str(tmp_path / "saved"))))
    created = market.ledger.tasks.find(TaskId(task.id))
    assert created is not None
    [source] = parts_of(cast(JsonValue, created.request.dataset))
    assert read_rows(source) == rows


@pytest.mark.parametrize("form", ["{}", "{}/", "{}/../tiny", "./../{}"])
def test_a_customer_cannot_name_folders_of_the_validators_machine_as_bases(
    market: Market, bases: BaseModels, form: str
) -> None:
    """Of a folder with a model and of one that is not there the same is said."""
    said = set()
    for folder in ("tiny", "nothing"):
        name = form.format(bases.shipped / folder)
        refusal = refusal_of(market.acme.post("/v1/tasks", json=market.spec(base=name)), 422)
        said.add((refusal["code"], refusal["message"].replace(name, "…"), refusal["fix"]))
    assert [(code, message) for code, message, _ in said] == [("model_unknown", "There is no base model '…'")]


@pytest.mark.parametrize(
    ("dataset", "kind"),
    [
        ("https://example.com/rows.csv", "url"),
        ("http://example.com/rows.csv", "url"),
        ({"kind": "url", "url": "https://example.com/rows.csv"}, "url"),
        ("s3://bucket/rows.jsonl", "s3"),
    ],
)
def test_a_customer_can_name_what_lies_elsewhere(market: Market, dataset: object, kind: str) -> None:
    task_id = market.acme.post("/v1/tasks", json=market.spec(dataset=dataset)).json()["id"]
    task = market.ledger.tasks.find(task_id)
    assert task is not None
    assert task.request.dataset["kind"] == kind


@pytest.mark.parametrize(
    "dataset", ["file:///etc/hosts.csv", "ftp://example.com/rows.csv", "HTTPS://example.com/x.csv"]
)
def test_other_schemes_name_nothing(market: Market, dataset: str) -> None:
    answer = market.acme.post("/v1/tasks", json=market.spec(dataset=dataset))
    assert "cannot name files" in refusal_of(answer, 422)["message"]


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff", b"[" * 100_000, b'"text"'])
def test_a_body_that_is_no_json_object_is_refused_in_the_same_form(market: Market, body: bytes) -> None:
    answer = market.acme.post("/v1/tasks", content=body, headers={"Content-Type": "application/json"})
    refusal_of(answer, answer.status_code)
    assert answer.status_code in (400, 422)


def _endless() -> Iterator[bytes]:
    for _ in range(50):
        yield b" " * (MOST_BYTES // 10)


def test_nobody_can_fill_the_memory_with_a_body(market: Market) -> None:
    bodies: list[bytes | Iterator[bytes]] = [b" " * (MOST_BYTES + 1), _endless()]
    answers = [market.acme.post("/v1/tasks", content=body) for body in bodies]
    assert [refusal_of(answer, 413)["code"] for answer in answers] == ["http_413", "http_413"]


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/estimates", "/v1/datasets?name=rows.jsonl"])
def test_a_stranger_is_refused_before_the_body_has_come(market: Market, path: str) -> None:
    """Not a byte of it is sent."""
    with socket.create_connection(_address(market), timeout=120) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n".encode())
        assert connection.recv(12) == b"HTTP/1.1 401"


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/estimates", "/v1/datasets?name=rows.jsonl"])
@pytest.mark.parametrize("drip", [b"", b" "], ids=["nothing", "a byte"])
def test_a_customers_body_has_to_come_in_time(
    tmp_path: Path, bases: BaseModels, path: str, drip: bytes, market: Market
) -> None:
    quick = ApiSettings(body_seconds=0.4, upload_bytes_per_second=100)
    app = api_app(dependencies_of(market.ledger, tmp_path, bases, [], Conditions()), quick)
    key = market.ledger.customers.issue("acme")
    with serving_in_thread(app) as address, socket.create_connection((address.ip, address.port), timeout=120) as slow:
        start = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: 1000\r\n"
        slow.sendall(f"{start}Content-Type: application/json\r\n\r\n".encode() + drip)
        assert slow.recv(12) == b"HTTP/1.1 408"
    assert not list(Folders(tmp_path).uploads.glob("*"))


def test_an_upload_that_comes_as_fast_as_it_must_may_take_longer_than_other_bodies(
    tmp_path: Path, bases: BaseModels, market: Market
) -> None:
    quick = ApiSettings(body_seconds=0.3, upload_bytes_per_second=100)
    app = api_app(dependencies_of(market.ledger, tmp_path, bases, [], Conditions()), quick)
    key = {"Authorization": f"Bearer {market.ledger.customers.issue('acme')}"}

    def slowly() -> Iterator[bytes]:
        for _ in range(6):
            yield ROWS  # more than 100 bytes, which earn a second
            time.sleep(0.1)

    with serving_in_thread(app) as address:
        answer = httpx.post(
            address.url("/v1/datasets?name=rows.jsonl"), content=slowly(), headers=key, timeout=120, trust_env=False
        )
    assert answer.status_code == 201, answer.text


def _address(market: Market) -> tuple[str, int]:
    url = httpx.URL(market.url)
    assert url.port is not None
    return url.host, url.port


def test_what_is_wrong_with_a_spec_is_said_by_field_up_to_three_times(market: Market) -> None:
    spec = market.spec(hours=99, base="", surprise=1, another=2)
    message = refusal_of(market.acme.post("/v1/tasks", json=spec), 422)["message"]
    assert message.startswith("hours: Input should be less than or equal to 48; surprise: Extra inputs")
    assert message.count(": ") == 3
    neither = refusal_of(market.acme.post("/v1/tasks", json=market.spec(base="")), 422)["message"]
    assert "base" in neither
    assert "continues" in neither


def test_a_failure_that_nobody_has_named_is_internal_and_told_to_the_log_alone(market: Market) -> None:
    market.folders.uploads.write_text("a file in the way")
    with capture_logs() as logged:
        refusal = refusal_of(market.upload(), 500)
    assert refusal["code"] == "internal"
    assert "uploads" not in json.dumps(refusal)
    [event] = [line for line in logged if line["event"] == "request_crashed"]
    assert (event["path"], event["log_level"], event["exc_info"]) == ("/v1/datasets", "error", True)
    market.folders.uploads.unlink()
    assert market.upload().status_code == 201


def test_an_upload_that_its_sender_gives_up_leaves_nothing_and_is_not_a_crash(market: Market) -> None:
    url = httpx.URL(market.url)
    key = market.acme.headers["Authorization"]
    head = (
        f"POST /v1/datasets?name=rows.jsonl HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\nContent-Length: 999\r\n\r\n"
    )
    with capture_logs() as logged:
        with socket.create_connection((url.host, url.port or 80)) as sender:
            sender.sendall(head.encode() + ROWS)
            _until(lambda: market.folders.uploads.is_dir() and list(market.folders.uploads.iterdir()) != [])
        _until(lambda: [line["event"] for line in logged] == ["client_gone"])
    assert list(market.folders.uploads.iterdir()) == []


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(errno.EMFILE, "internal"), (errno.ENOSPC, "disk_full")])
def test_only_a_full_disk_is_called_one(market: Market, number: int, code: str) -> None:
    """A body that fails in the middle stands in for the disk: what the system says decides, not where it is said."""

    async def body() -> AsyncIterator[bytes]:
        yield ROWS
        raise OSError(number, os.strerror(number))

    uploads = Uploads(market.folders.uploads, market.ledger.uploads, MAX_UPLOAD_BYTES, MAX_UPLOAD_BYTES)
    with pytest.raises((OSError, DiskFull)) as caught:
        asyncio.run(uploads.receive("rows.jsonl", body(), customer="acme"))
    assert isinstance(caught.value, DiskFull) == (code == "disk_full")
    assert list(market.folders.uploads.iterdir()) == []


def test_the_openapi_document_says_what_every_field_and_parameter_means(market: Market) -> None:
    document = market.acme.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    silent = {
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, about in schema.get("properties", {}).items()
        if "description" not in about
    }
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    parameters = [parameter for operation in operations for parameter in operation.get("parameters", ())]
    assert silent == set()
    assert [parameter["name"] for parameter in parameters if not parameter.get("description")] == []
    assert {"PostedSpec", "TaskDetails", "MinerResult", "Estimate", "Refusal"} <= set(schemas)
    assert len(parameters) > 5


def test_the_openapi_document_has_a_type_for_every_body(market: Market) -> None:
    """A model by name for JSON, bytes or text for the rest; and every refusal of a customer's route is a Refusal."""
    document = market.acme.get("/openapi.json").json()
    bodies = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if "requestBody" in operation:
                bodies[f"{method} {path}"] = operation["requestBody"]["content"]
            for status, answer in operation["responses"].items():
                bodies[f"{method} {path} {status}"] = answer.get("content", {})
    named = {
        name: content["application/json"]["schema"]["$ref"]
        for name, content in bodies.items()
        if "application/json" in content
    }
    assert {name for name in bodies if name not in named} == {
        "post /v1/datasets",
        "options /v1/uploads 204",
        "post /v1/uploads 201",
        "head /v1/uploads/{upload_id} 200",
        "patch /v1/uploads/{upload_id}",
        "patch /v1/uploads/{upload_id} 204",
        "delete /v1/uploads/{upload_id} 204",
        "get /llms.txt 200",
        "get /llms-full.txt 200",
        "get /v1/tasks/{task_id}/base/{path} 200",
        "get /v1/tasks/{task_id}/models/{hotkey}/{name} 200",
        "get /v1/tasks/{task_id}/contact-sheet 200",
        "get /v1/tasks/{task_id}/models/{hotkey}/archive.tar 200",
        "get /v1/tasks/{task_id}/events 200",
        "get /v1/tasks/{task_id}/events 204",
        "get /v1/record/blobs/{sha256} 200",
        "get /metrics 200",
    }
    assert named["post /v1/tasks"] == "#/components/schemas/PostedSpec"
    assert named["post /v1/estimates"] == "#/components/schemas/EstimateSpec"
    refused = {ref for name, ref in named.items() if " /v1/" in name and name[-3:].isdigit() and name[-3:] >= "400"}
    assert refused == {"#/components/schemas/Refusal"}
    required = document["components"]["schemas"]
    assert "hours" in required["PostedSpec"]["required"]
    assert "hours" not in required["EstimateSpec"]["required"]


@pytest.mark.parametrize("base", ["0" * 256, "é" * 128, "org/" + "n" * 252, "org/" + "é" * 126])
def test_a_base_whose_name_no_file_can_have_is_refused_like_any_other(market: Market, base: str) -> None:
    assert refusal_of(market.acme.post("/v1/tasks", json=market.spec(base=base)), 422)["code"] == "model_unknown"


def test_a_path_that_is_not_there_is_refused_in_the_same_form(market: Market) -> None:
    assert refusal_of(market.acme.get("/v2/tasks"), 404)["code"] == "http_404"


def test_a_posted_task_wakes_the_engine_and_is_listed_newest_first(market: Market) -> None:
    first, second = market.posted_task(), market.posted_task()
    assert market.posted == ["task", "task"]
    listed = market.acme.get("/v1/tasks").json()["tasks"]
    assert [task["id"] for task in listed] == [second, first]
    assert listed[0] | {"created_at": 0} == {
        "id": second,
        "type": "instruct",
        "state": "draft",
        "note": "The base is fetched and the data are prepared",
        "has_model": None,
        "base": "tiny",
        "continues": None,
        "hours": 0.5,
        "created_at": 0,
        "metric": {"name": "completion cross-entropy", "unit": "nats/token"},
        "better": "lower",
        "rows": None,
        "failure": None,
    }
    assert len(market.acme.get("/v1/tasks", params={"limit": 1}).json()["tasks"]) == 1


def test_a_customer_sees_only_its_own_tasks(market: Market) -> None:
    task_id = market.scored_task()
    with market.client("other") as other:
        assert other.get("/v1/tasks").json() == {"tasks": [], "next": None}
        for path in ("", "/models/best", "/models/best/adapter_config.json"):
            assert refusal_of(other.get(f"/v1/tasks/{task_id}{path}"), 404)["code"] == "not_found"


def test_no_loss_and_no_model_can_be_had_before_the_task_is_scored(market: Market) -> None:
    task_id, _ = market.measured_task()
    task = market.acme.get(f"/v1/tasks/{task_id}").json()
    assert (task["state"], task["base_loss"]) == ("measured", None)
    assert [(m["loss"], m["stderr"], m["extras"], m["repo"]) for m in task["miners"]] == [(None, None, {}, None)] * 2
    assert "2.0" not in json.dumps([{**miner, "progress": None} for miner in task["miners"]])
    for name in ("best", ALICE):
        assert "once it is scored" in refusal_of(market.acme.get(f"/v1/tasks/{task_id}/models/{name}"), 404)["message"]
        refusal_of(market.acme.get(f"/v1/tasks/{task_id}/models/{name}/adapter_config.json"), 404)


def test_a_scored_task_shows_losses_places_and_what_was_removed(market: Market) -> None:
    task = market.acme.get(f"/v1/tasks/{market.scored_task()}").json()
    assert (task["state"], task["base_loss"], task["data"]["removed"]) == ("scored", 3.0, {"empty": 2})
    best, failed = task["miners"]
    assert (best["hotkey"], best["rank"], best["loss"], best["gain"]) == (ALICE, 1, 2.0, pytest.approx(1 / 3))
    assert (best["chance"], best["prize"], best["copy_of"]) == (1.0, 2.0, None)
    assert best["progress"]["step"] == 12
    assert (failed["hotkey"], failed["rank"], failed["loss"], failed["repo"]) == (BOB, None, None, None)
    assert (failed["gain"], failed["chance"], failed["prize"]) == (None, 0.0, 0.0)
    assert failed["reason"] == "not_revealed"


def test_no_digest_of_the_held_out_rows_is_shown(market: Market) -> None:
    assert PREPARED.held_out.sha256 not in market.acme.get(f"/v1/tasks/{market.scored_task()}").text


def test_the_best_model_is_downloaded_byte_by_byte(market: Market) -> None:
    path = f"/v1/tasks/{market.scored_task()}/models"
    listing = market.acme.get(f"{path}/best").json()
    assert (listing["hotkey"], set(listing["files"])) == (ALICE, DELIVERED)
    assert market.acme.get(f"{path}/{ALICE}").json() == listing
    for name, file in listing["files"].items():
        content = market.acme.get(f"{path}/best/{name}").content
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (file["sha256"], file["size_bytes"])


def test_what_stands_around_a_miners_weights_is_ours(market: Market) -> None:
    path = f"/v1/tasks/{market.scored_task()}/models/best"
    config = market.acme.get(f"{path}/adapter_config.json").json()
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (
        2,
        4,
        [LAYER.removeprefix("base_model.model.")],
    )
    assert config["base_model_name_or_path"] == "tiny"
    assert "auto_mapping" not in config
    card = market.acme.get(f"{path}/README.md").text
    assert "Send your keys" not in card
    assert "| this model | 2 | 1.804 to 2.196 |\n| its base | 3 | 2.804 to 3.196 |" in card


@pytest.mark.parametrize("name", ["private.txt", "..%2f..%2f..%2fledger.db", "%2fetc%2fpasswd", "manifest.json"])
def test_only_files_of_the_manifest_are_given_out(market: Market, name: str) -> None:
    refusal_of(market.acme.get(f"/v1/tasks/{market.scored_task()}/models/best/{name}"), 404)


@pytest.mark.parametrize("hotkey", [BOB, "5Nobody", "%2e%2e"])
def test_a_miner_without_a_model_has_none_to_give(market: Market, hotkey: str) -> None:
    assert market.acme.get(f"/v1/tasks/{market.scored_task()}/models/{hotkey}").status_code == 404
