"""The public record: written once for each task and epoch, whatever is in between, and served to anybody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from moto.server import ThreadedMotoServer
from sqlalchemy.orm import Session

from gradients.audit.auditor import Auditor, Scope
from gradients.conditions.state import Conditions
from gradients.domain.task import TaskId
from gradients.errors import SetupError
from gradients.record.exporting import export, open_target
from gradients.record.models import Record, TaskBody, WeightsBody
from gradients.record.reading import FolderSource, HttpSource, RecordUnreadable, open_source
from gradients.testing.axons import serving_in_thread
from tests.unit.audit.real_market import RealMarket
from validator.api.app import api_app
from validator.api.dependencies import Dependencies
from validator.api.uploads import Uploads
from validator.board import Board
from validator.ledger.rows import RecordRow, TaskRow
from validator.progress import ProgressBoard
from validator.settings import EstimateSettings
from validator.specs.estimates import Estimates
from validator.specs.intake import Intake
from validator.specs.rewards import RewardTrials


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealMarket]:
    """An open task of the schedule's and a private one of a customer's, each with its weights."""
    made = RealMarket(tmp_path_factory.mktemp("market"))

    async def scenario() -> None:
        await made.play(1)
        await made.play(1, private=True, customer="acme")
        await made.client.close()

    asyncio.run(scenario())
    yield made
    made.ledger.engine.dispose()


@pytest.fixture(scope="module")
def url(market: RealMarket) -> Iterator[str]:
    with serving_in_thread(_api(market)) as address:
        yield address.url()


def _api(market: RealMarket) -> FastAPI:
    from gradients.datasets.access import Access

    ledger, view = market.ledger, market.subnet.view
    return api_app(
        Dependencies(
            ledger=ledger,
            board=Board(ledger, ProgressBoard(ledger, view, market.client)),
            intake=Intake(ledger, market.bases, market.folders, lambda: None),
            uploads=Uploads(market.folders.uploads, ledger.uploads, 1_000_000, 1_000_000),
            estimates=Estimates(market.bases, market.executor, Access(), EstimateSettings()),
            rewards=RewardTrials(market.executor),
            folders=market.folders,
            store=market.store,
            conditions=Conditions(),
        )
    )


def records(market: RealMarket) -> list[Record]:
    page = market.ledger.records.page(after=0, limit=100, most_bytes=10**9)
    return [Record.model_validate_json(content) for content in page.contents]


def bodies(market: RealMarket) -> tuple[TaskBody, TaskBody]:
    one, other = (TaskBody.model_validate(record.body) for record in records(market) if record.kind == "task")
    return one, other


def test_every_task_and_every_epoch_has_one_link(market: RealMarket) -> None:
    found = records(market)
    assert [(record.seq, record.kind) for record in found] == [(1, "task"), (2, "weights"), (3, "task"), (4, "weights")]
    assert asyncio.run(market.recorder.catch_up()) == 0
    weights = WeightsBody.model_validate(found[3].body)
    assert weights.tasks == tuple(sorted(body.task_id for body in bodies(market)))


def test_a_private_task_shows_neither_rows_nor_salt_nor_seeds_nor_models(market: RealMarket) -> None:
    shown, hidden = bodies(market)
    assert (shown.customer, hidden.customer) == ("schedule", hidden.task_id)
    assert (hidden.salt, hidden.metric_seed, hidden.request.dataset) == (None, None, None)
    assert shown.salt is not None
    ledger = market.ledger.records
    assert ledger.is_open(shown.data.held_out.sha256)
    assert not ledger.is_open(hidden.data.held_out.sha256)
    text = json.dumps(hidden.model_dump(mode="json"))
    assert str(market.rows) not in text
    assert "acme" not in text


def test_anybody_reads_pages_records_and_open_bytes_and_nothing_else(market: RealMarket, url: str) -> None:
    shown, hidden = bodies(market)
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as anybody:
        first = anybody.get("/v1/record", params={"limit": 3}).json()
        rest = anybody.get("/v1/record", params={"after": 3}).json()
        assert [each["seq"] for each in (*first["records"], *rest["records"])] == [1, 2, 3, 4]
        assert (first["last_seq"], anybody.get("/v1/record", params={"after": 4}).json()["records"]) == (4, [])
        assert anybody.get("/v1/record/2").json() == first["records"][1]
        assert anybody.get("/v1/record/5").status_code == 404
        assert anybody.get("/v1/record", params={"limit": 101}).status_code == 422
        rows = anybody.get(f"/v1/record/blobs/{shown.data.held_out.sha256}")
        assert len(rows.content.splitlines()) == shown.data.held_out_rows
        for closed in (hidden.data.held_out.sha256, hidden.data.train.sha256, "0" * 64, "../ledger.db"):
            assert anybody.get(f"/v1/record/blobs/{closed}").status_code in (404, 422)


def test_a_page_ends_by_bytes_too_but_holds_one_record_at_least(market: RealMarket) -> None:
    pages = market.ledger.records
    assert len(pages.page(after=0, limit=100, most_bytes=1).contents) == 1
    assert len(pages.page(after=0, limit=100, most_bytes=10**9).contents) == 4


def test_a_copy_in_a_folder_is_audited_like_the_validator_itself(market: RealMarket, url: str, tmp_path: Path) -> None:
    source = HttpSource(url)
    copied = export(source, open_target(str(tmp_path)))
    again = export(source, open_target(str(tmp_path)))
    there = asyncio.run(Auditor(source, Scope(), market.subnet.gateway).run())
    source.close()
    here = asyncio.run(Auditor(open_source(str(tmp_path)), Scope(), market.subnet.gateway).run())
    assert (copied, again) == (4, 0)
    assert there.as_json() == here.as_json() == {"tasks": 2, "epochs": 2, "reevaluated": 0, "alarms": []}


def test_bytes_that_were_changed_in_a_copy_raise_an_alarm(market: RealMarket, url: str, tmp_path: Path) -> None:
    source = HttpSource(url)
    export(source, open_target(str(tmp_path)), models=False)
    source.close()
    held_out = bodies(market)[0].data.held_out.sha256
    (tmp_path / "blobs" / held_out).write_bytes(b'{"instruction": "a", "output": "b"}\n')
    report = asyncio.run(Auditor(FolderSource(tmp_path), Scope()).run())
    assert [alarm.field for alarm in report.alarms] == ["body.data.held_out.sha256"]
    (tmp_path / "records" / "0000000002.json").write_text("{}")
    report = asyncio.run(Auditor(FolderSource(tmp_path), Scope()).run())
    assert report.alarms[-1].where == "record 2"


def test_a_record_is_copied_to_an_s3_store(market: RealMarket, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    import boto3

    store = boto3.client("s3")
    store.create_bucket(Bucket="records")
    source = HttpSource(url)
    counts = [export(source, open_target("s3://records/ours")) for _ in range(2)]
    names = {each["Key"] for each in store.list_objects_v2(Bucket="records")["Contents"]}
    source.close()
    store.close()
    server.stop()
    assert counts == [4, 0]
    assert "ours/records/0000000004.json" in names
    assert f"ours/blobs/{bodies(market)[0].data.train.sha256}" in names


def test_a_place_that_holds_no_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="holds no record"):
        open_source(str(tmp_path))
    source = HttpSource("http://127.0.0.1:9")
    with pytest.raises(RecordUnreadable, match="cannot be had"):
        next(source.records())
    source.close()


def test_a_customers_tasks_name_the_first_one_that_was_recorded(market: RealMarket) -> None:
    """Though another one was posted before it: what counts is that all of them name the same."""
    schedules, customers = (body.task_id for body in bodies(market))
    with Session(market.ledger.engine) as session, session.begin():
        session.get_one(TaskRow, schedules).customer = "acme"
    assert market.ledger.records.evidence(schedules).first_task == schedules  # recorded before
    assert market.ledger.records.evidence(customers).first_task == schedules
    with Session(market.ledger.engine) as session, session.begin():
        session.get_one(TaskRow, schedules).customer = "schedule"
    assert market.ledger.records.evidence(customers).first_task == customers


def test_what_was_missed_is_recorded_later_each_task_before_the_first_weights_that_it_went_into(
    market: RealMarket,
) -> None:
    """Else an auditor would miss a task in weights that were decided before it was scored."""
    with Session(market.ledger.engine) as session, session.begin():
        session.query(RecordRow).delete()
    before = [TaskId(f"instruct-{number:012x}") for number in range(2)]
    assert market.ledger.records.unrecorded_tasks() == before
    assert [asyncio.run(market.recorder.catch_up()) for _ in range(2)] == [4, 0]
    assert [record.kind for record in records(market)] == ["task", "weights", "task", "weights"]
    report = asyncio.run(Auditor(_InLedger(market), Scope(), market.subnet.gateway).run())
    assert report.alarms == []


class _InLedger:
    """The ledger's own records as a source."""

    def __init__(self, market: RealMarket) -> None:
        self._market = market

    def records(self, *, after: int = 0) -> Iterator[Record]:
        yield from (record for record in records(self._market) if record.seq > after)

    def blob(self, sha256: str, into: Path) -> Path:
        return self._market.store.path(sha256)
