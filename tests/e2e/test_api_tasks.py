"""Tasks over the customers' API: pages and filters, taking back, the stream of events, and both clients."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel

from gradients.bases.bases import digest_of
from gradients.client import account, estimates, held_out, models, rewards, standing, stored
from gradients.client.aio import AsyncMarketClient
from gradients.client.answers import ApiRefused
from gradients.client.api import MarketClient
from gradients.client.models import TaskEvent, examples
from gradients.client.requests import Wanted
from gradients.domain.submission import SubmissionState
from gradients.domain.task import Blob, Parent, TaskState
from gradients.errors import LeaseLost
from gradients.repo.store import ContentStore
from gradients.testing.clock import HandClock
from tests.e2e.api_market import ALICE, BOB, PREPARED, Market, refusal_of
from validator.api import streams


@pytest.fixture
def client(market: Market) -> MarketClient:
    opened = MarketClient(market.url, market.ledger.customers.issue("acme"))
    market.clients.callback(opened.__exit__)
    return opened


def test_pages_follow_one_another_whatever_is_posted_in_between(market: Market, client: MarketClient) -> None:
    ids = [market.posted_task() for _ in range(5)]
    first = client.tasks(limit=2)
    market.posted_task()
    second = client.tasks(limit=2, cursor=first.next)
    third = client.tasks(limit=2, cursor=second.next)
    pages = [[task.id for task in page.tasks] for page in (first, second, third)]
    assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
    assert third.next is None


def test_tasks_of_one_moment_are_all_on_some_page(market: Market, client: MarketClient) -> None:
    """Two of them share a page's end: the second is not lost with it."""
    market.ledger.tasks._clock = HandClock()
    ids = {market.posted_task() for _ in range(5)}
    page, seen = client.tasks(limit=2), list[str]()
    while True:
        seen += [task.id for task in page.tasks]
        if page.next is None:
            break
        page = client.tasks(limit=2, cursor=page.next)
    assert (len(seen), set(seen)) == (5, ids)


def test_a_task_that_continues_another_says_so_and_gives_its_base_away_to_its_customer(
    market: Market, client: MarketClient, tmp_path: Path
) -> None:
    first = market.scored_task()
    refused = market.acme.post("/v1/tasks", json=market.spec(base="tiny", continues=first))
    assert "not both" in refusal_of(refused, 422)["message"]
    strangers = market.client("others").post("/v1/tasks", json=market.spec(base="", continues=first))
    assert refusal_of(strangers, 422)["code"] == "parent_unknown"
    posted = client.submit({"type": "chat", "continues": first, "dataset": "hub:acme/rows", "hours": 1.0})
    assert (posted.base, posted.continues) == (f"task:{first}", first)
    with pytest.raises(ApiRefused, match="no base of its own"):  # before it is prepared
        client.base(posted.id)
    store = ContentStore(market.folders.blobs)
    files = {"config.json": b"{}", "unet/model.safetensors": b"weights"}
    blobs = dict[str, Blob]()
    for path, content in files.items():
        (tmp_path / "file").write_bytes(content)
        blobs[path] = Blob(store.add_file(tmp_path / "file"), len(content))
    digest = digest_of({path: blob.sha256 for path, blob in blobs.items()})
    parent = Parent(first, ALICE, "f" * 64, "b" * 64, tuple(blobs.items()))
    prepared = replace(PREPARED, base_digest=digest, parent=parent)
    market.advance(TaskState.DRAFT, TaskState.OPEN, prepared=prepared)
    task = client.task(posted.id)
    assert [step.model_dump() for step in task.lineage] == [
        {"task": first, "type": "instruct", "base": "tiny", "hotkey": ALICE}
    ]
    assert client.task(first).continued_by == (posted.id,)
    assert client.task(first).lineage == ()
    brought = client.download_base(posted.id, client.base(posted.id), tmp_path / "brought")
    assert {path: (brought / path).read_bytes() for path in files} == files
    strange = market.client("others")
    assert strange.get(f"/v1/tasks/{posted.id}/base").status_code == 404
    assert strange.get(f"/v1/tasks/{posted.id}/base/config.json").status_code == 404
    assert market.acme.get(f"/v1/tasks/{posted.id}/base/..%2Fapi.key").status_code == 404

    async def the_same() -> None:
        async with AsyncMarketClient(market.url, market.ledger.customers.issue("acme")) as other:
            await other.download_base(posted.id, await other.base(posted.id), tmp_path / "other")

    asyncio.run(the_same())
    assert {path: (tmp_path / "other" / path).read_bytes() for path in files} == files


def test_a_list_is_narrowed_by_state_type_text_and_time(market: Market, client: MarketClient) -> None:
    task_id = market.scored_task()
    other = market.acme.post("/v1/tasks", json=market.spec(type="chat")).json()["id"]
    posted = client.task(task_id).created_at

    def ids(**query: object) -> list[str]:
        answer = market.acme.get("/v1/tasks", params=query)  # type: ignore[arg-type]  # httpx takes what a URL can hold
        return [task["id"] for task in answer.json()["tasks"]]

    assert ids(state="scored") == [task_id]
    assert ids(state=["scored", "draft"]) == [other, task_id]
    assert ids(type="chat") == [other]
    assert ids(search="TINY") == [other, task_id]
    assert ids(search="%") == ids(search="_iny") == []  # no patterns
    assert ids(search=other[-6:]) == [other]
    assert ids(created_before=posted) == []
    assert ids(created_after=posted) == [other, task_id]


@pytest.mark.parametrize("cursor", ["x", "e30", "WzFd", "W251bGwsICJhIl0", "WyJuYW4iLCAiYSJd", "WzFlOTk5LCAiYSJd"])
def test_a_cursor_that_no_page_gave_is_refused(market: Market, cursor: str) -> None:
    assert "cursor" in refusal_of(market.acme.get("/v1/tasks", params={"cursor": cursor}), 422)["message"]


def test_a_draft_is_taken_back_and_whoever_prepares_it_has_lost_its_lease(market: Market, client: MarketClient) -> None:
    task_id = market.posted_task()
    claim = market.ledger.tasks.claim([TaskState.DRAFT], owner="test", block=10, lease_seconds=60)
    assert claim is not None
    for _ in range(2):
        cancelled = client.cancel(task_id)
        assert (cancelled.state, cancelled.has_model) == (TaskState.CANCELLED, False)
    with pytest.raises(LeaseLost):
        market.ledger.tasks.advance(claim.lease, came_from=TaskState.DRAFT, to=TaskState.OPEN, prepared=PREPARED)
    assert (
        market.ledger.tasks.claim([TaskState.DRAFT, TaskState.OPEN], owner="test", block=10, lease_seconds=60) is None
    )
    assert [event.name for event in market.ledger.events.of_task(task_id)] == ["task_created", "task_advanced"]


def test_a_task_that_miners_were_drawn_for_is_not_taken_back(market: Market, client: MarketClient) -> None:
    for task_id in (market.measured_task()[0], market.scored_task()):
        with pytest.raises(ApiRefused, match="miners have trained") as caught:
            client.cancel(task_id)
        assert (caught.value.code, caught.value.status) == ("task_begun", 409)


def test_nobody_takes_back_or_follows_anothers_task(market: Market) -> None:
    task_id = market.posted_task()
    other = market.client("other")
    refusal_of(other.post(f"/v1/tasks/{task_id}/cancel"), 404)
    refusal_of(other.get(f"/v1/tasks/{task_id}/events"), 404)


def test_the_stream_tells_everything_once_and_ends_with_the_task(market: Market, client: MarketClient) -> None:
    task_id = market.scored_task()
    events = [event for event in client.events(task_id) if isinstance(event, TaskEvent)]
    assert [event.state for event in events if event.kind in ("created", "state")] == [
        TaskState.DRAFT,
        TaskState.OPEN,
        TaskState.MEASURED,
        TaskState.SCORED,
    ]
    assert [(event.hotkey, event.submission) for event in events if event.kind == "miner"] == [
        (ALICE, SubmissionState.COLLECTED),
        (BOB, SubmissionState.STARTED),
    ]
    assert [event.hotkey for event in events if event.kind == "measured"] == ["base", ALICE]
    assert list(client.events(task_id, after=events[2].id)) == events[3:]
    market.ledger.submissions.drop(task_id, ALICE)  # after the end, and nothing that a stream tells
    answer = market.acme.get(f"/v1/tasks/{task_id}/events", headers={"Last-Event-ID": str(events[-1].id)})
    assert answer.status_code == 204


def test_no_measured_value_is_in_the_stream_before_the_task_is_scored(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id, _ = market.measured_task()
    monkeypatch.setattr(streams, "LOOK_SECONDS", 0.05)
    dependencies = market.app.state.dependencies
    market.app.state.dependencies = replace(dependencies, stream_seconds=1.0)
    text = market.acme.get(f"/v1/tasks/{task_id}/events").text
    assert '"kind":"measured"' in text
    assert "value" not in text
    assert text.count("event: progress") == 1  # Alice's words, which stay the same
    assert "5Bob" not in text.partition("event: progress")[2].partition("\n\n")[0]


def test_a_watcher_hears_of_the_end_without_asking_again_and_again(market: Market, client: MarketClient) -> None:
    task_id = market.posted_task()
    seen = []
    taken = threading.Thread(target=lambda: market.ledger.tasks.cancel(task_id))
    for task in client.watch(task_id):
        seen.append(task.state)
        if not taken.ident:
            taken.start()
    assert seen == [TaskState.DRAFT, TaskState.CANCELLED]


def test_the_async_client_has_the_same_answers(market: Market, client: MarketClient, tmp_path: Path) -> None:
    task_id = market.scored_task()

    async def asked() -> None:
        key = market.ledger.customers.issue("acme")
        async with AsyncMarketClient(market.url, key) as aio:
            assert await aio.task(task_id) == client.task(task_id)
            assert await aio.tasks(Wanted(search="tiny")) == client.tasks(Wanted(search="tiny"))
            assert [event async for event in aio.events(task_id)] == list(client.events(task_id))
            assert [task.state async for task in aio.watch(task_id)] == [TaskState.SCORED]
            with pytest.raises(ApiRefused, match="miners have trained"):
                await aio.cancel(task_id)
            rows = tmp_path / "rows.jsonl"
            rows.write_text('{"instruction": "a", "output": "b"}\n')
            posted = await aio.submit({"type": "instruct", "base": "tiny", "dataset": str(rows), "hours": 1})
            assert (await aio.cancel(posted.id)).state is TaskState.CANCELLED
            folder = await aio.download(task_id, await aio.model(task_id, "best"), tmp_path / "model")
        assert sorted(file.name for file in folder.iterdir()) == sorted(
            file.name for file in client.download(task_id, client.model(task_id, "best"), tmp_path / "again").iterdir()
        )

    asyncio.run(asked())


def test_a_task_says_when_it_is_due_and_how_certain_its_figures_are(market: Market, client: MarketClient) -> None:
    """Half an hour in one block: collecting, another block, takes as long again. 10 rows of equal losses leave no doubt about the gain."""
    task = client.task(market.scored_task())
    assert task.blocks is not None
    assert task.blocks.started_at is not None
    assert task.blocks.deadline_at == task.blocks.started_at + 1800
    assert task.blocks.reveal_until_at == task.blocks.started_at + 3600
    best = task.miners[0]
    assert [best.loss_low, best.loss_high] == pytest.approx([2 - 0.196, 2 + 0.196])
    assert [best.gain_low, best.gain_high] == pytest.approx([1 / 3, 1 / 3])
    assert (task.note, task.has_model) == ("The best model can be downloaded", True)


def test_a_task_that_nobody_won_says_so_where_it_is_listed(market: Market, client: MarketClient) -> None:
    market.scored_task(won=False)
    [task] = client.tasks().tasks
    assert (task.state, task.has_model) == (TaskState.SCORED, False)
    assert task.note.startswith("Ended without a model")


def test_every_example_is_what_its_model_takes(market: Market) -> None:
    """And every body of the API but files has one."""
    for name, example in examples().items():
        model: type[BaseModel] = next(
            found
            for module in (models, estimates, stored, standing, account, rewards, held_out)
            if (found := getattr(module, name, None))
        )
        read = model.model_validate(example)
        assert set(example) <= set(model.model_fields)
        assert json.loads(read.model_dump_json(exclude_unset=True)) == example
    document = market.acme.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    shown = {name for name, schema in schemas.items() if "examples" in schema}
    assert shown >= set(examples()) - {"TaskEvent", "TaskProgress"}  # in a stream, which has no schema
    bodies = {
        content["schema"]["$ref"].rpartition("/")[2]
        for path in document["paths"].values()
        for operation in path.values()
        for body in (operation.get("requestBody", {}), *operation["responses"].values())
        for kind, content in body.get("content", {}).items()
        if kind == "application/json"
    }
    assert bodies - shown == {"Record", "RecordPage"}  # signed, and described by gradients/record


def test_operations_have_names_of_their_own_and_a_part_that_they_belong_to(market: Market) -> None:
    document = market.acme.get("/openapi.json").json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert {"post_task", "list_tasks", "follow_task", "cancel_task", "estimate_task", "upload_rows"} <= set(names)
    tags = {tag["name"] for tag in document["tags"]}
    assert all(len(operation["tags"]) == 1 and set(operation["tags"]) <= tags for operation in operations)
