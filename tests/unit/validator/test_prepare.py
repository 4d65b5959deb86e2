"""DRAFT -> OPEN."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from gradients.chain.view import ChainView
from gradients.clock import SystemClock
from gradients.datasets.access import Access
from gradients.domain.task import TaskId, TaskState
from gradients.errors import DatasetInvalid, ModelUnknown, TaskInvalid
from gradients.execution.inline import InlineExecutor
from gradients.repo.store import ContentStore
from gradients.tasks.preparation import held_out_commitment
from gradients.tasks.registry import validate_request
from gradients.testing.fake_chain import FakeChain
from gradients.testing.loopback_site import Page, Request, Site, loopback_site
from tests.unit.validator.market import SALT, TASK, claimed, draft, found, running, tiny_bases, until
from validator.engine import StepEngine
from validator.folders import Folders
from validator.ledger import Ledger
from validator.specs.places import FetchPlaces
from validator.stages.prepare import PrepareStage, Turns

OTHER = TaskId("instruct-ba9876543210")
ROWS = [{"instruction": f"Which letter has number {i}?", "output": f"It is letter {i}"} for i in range(80)]


@pytest.fixture
def stage(ledger: Ledger, tmp_path: Path) -> PrepareStage:
    return PrepareStage(
        ledger, tiny_bases(tmp_path), ContentStore(tmp_path / "blobs"), Folders(tmp_path), InlineExecutor()
    )


def _post(ledger: Ledger, folder: Path, *, rows: list[dict[str, str]] = ROWS, base: str = "tiny") -> None:
    file = folder / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    draft(ledger, validate_request({"type": "instruct", "base": base, "dataset": str(file), "hours": 0.1}))


def _run(stage: PrepareStage, ledger: Ledger) -> None:
    asyncio.run(stage.run(claimed(ledger, TaskState.DRAFT)))


def test_both_sides_lie_in_the_store_by_digest(stage: PrepareStage, ledger: Ledger, tmp_path: Path) -> None:
    _post(ledger, tmp_path)
    _run(stage, ledger)
    task = found(ledger)
    assert task.state is TaskState.OPEN
    train = stage.store.path(task.data.train.sha256).read_text().splitlines()
    held_out = stage.store.path(task.data.held_out.sha256).read_text().splitlines()
    assert (len(train), len(held_out)) == (task.data.train_rows, task.data.held_out_rows) == (64, 16)
    assert not set(train) & set(held_out)


def test_the_held_out_rows_are_bound_by_the_tasks_own_salt(stage: PrepareStage, ledger: Ledger, tmp_path: Path) -> None:
    _post(ledger, tmp_path)
    _run(stage, ledger)
    data = found(ledger).data
    assert data.held_out_commitment == held_out_commitment(SALT, data.held_out.sha256, found(ledger).request)


def test_only_train_rows_are_published(stage: PrepareStage, ledger: Ledger, tmp_path: Path) -> None:
    _post(ledger, tmp_path)
    _run(stage, ledger)
    assert ledger.tasks.published_blobs() == {found(ledger).data.train.sha256}


def test_the_base_is_named_by_its_digest_and_size(stage: PrepareStage, ledger: Ledger, tmp_path: Path) -> None:
    _post(ledger, tmp_path)
    _run(stage, ledger)
    base = stage.bases.resolve("tiny")
    assert (found(ledger).data.base_digest, found(ledger).data.base_parameters) == (base.digest, base.parameters)


def test_nothing_of_the_held_out_rows_is_left_beside_the_store(
    stage: PrepareStage, ledger: Ledger, tmp_path: Path
) -> None:
    _post(ledger, tmp_path)
    _run(stage, ledger)
    assert not stage.folders.prepared(TASK).exists()


def test_what_a_crash_left_behind_is_written_over(stage: PrepareStage, ledger: Ledger, tmp_path: Path) -> None:
    _post(ledger, tmp_path)
    stage.folders.prepared(TASK).mkdir(parents=True)
    (stage.folders.prepared(TASK) / "train.jsonl").write_text("half a li")
    _run(stage, ledger)
    assert found(ledger).data.train_rows == 64


def test_too_few_rows_are_the_customers_fault(stage: PrepareStage, ledger: Ledger, tmp_path: Path) -> None:
    _post(ledger, tmp_path, rows=ROWS[:3])
    with pytest.raises(DatasetInvalid, match="There are 3 rows"):
        _run(stage, ledger)


def test_a_base_that_is_not_there_is_the_customers_fault(stage: PrepareStage, ledger: Ledger, tmp_path: Path) -> None:
    _post(ledger, tmp_path, base="no-such-model")
    with pytest.raises(ModelUnknown):
        _run(stage, ledger)


def test_a_task_about_text_takes_no_model_that_draws(stage: PrepareStage, ledger: Ledger, tmp_path: Path) -> None:
    pipeline = tmp_path / "pipeline"
    (pipeline / "unet").mkdir(parents=True)
    save_file({"weight": np.ones(4, dtype=np.float32)}, pipeline / "unet" / "model.safetensors")
    (pipeline / "model_index.json").write_text("{}")
    _post(ledger, tmp_path, base=str(pipeline))
    with pytest.raises(TaskInvalid, match="not a language model"):
        _run(stage, ledger)


def test_a_base_that_cannot_be_used_is_refused_before_the_task_is_offered(
    stage: PrepareStage, ledger: Ledger, tmp_path: Path
) -> None:
    config = stage.bases.resolve("tiny").folder / "tokenizer_config.json"
    demanding = "{{ raise_exception('a system message must come first') }}"
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": demanding}))
    _post(ledger, tmp_path)
    with pytest.raises(TaskInvalid, match="a system message must come first"):
        _run(stage, ledger)
    assert found(ledger).state is TaskState.DRAFT


def test_how_many_rows_are_cut_is_kept_with_the_task(stage: PrepareStage, ledger: Ledger, tmp_path: Path) -> None:
    long = {"instruction": "Number: " + "and so on " * 200, "output": "It is long"}
    _post(ledger, tmp_path, rows=[*ROWS, long])
    _run(stage, ledger)
    assert (found(ledger).data.tried_rows, found(ledger).data.cut_rows) == (81, 1)


def test_a_task_that_is_taken_back_ends_its_fetch_and_leaves_nothing(
    stage: PrepareStage, ledger: Ledger, tmp_path: Path
) -> None:
    """The thread that fetches cannot be cancelled: left alone it would go on for half an hour, and a few such would be all there are."""

    def dripping() -> Iterator[bytes]:
        while True:
            time.sleep(0.02)
            yield b"x"

    private = dataclasses.replace(stage, access=Access(private_addresses=True))

    async def scenario(site: Site) -> None:
        url = f"{site.url}/rows.jsonl"
        draft(ledger, validate_request({"type": "instruct", "base": "tiny", "dataset": url, "hours": 0.1}))
        step = asyncio.create_task(private.run(claimed(ledger, TaskState.DRAFT)))
        await until(lambda: bool(site.requests))
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)
        async with asyncio.timeout(60):
            await asyncio.to_thread(private.threads.shutdown)

    with loopback_site(lambda _: Page(dripping())) as site:
        asyncio.run(scenario(site))
    assert [path for path in private.folders.task(TASK).rglob("*") if path.is_file()] == []


def test_a_source_that_has_not_come_yet_holds_no_place(stage: PrepareStage, ledger: Ledger, tmp_path: Path) -> None:
    """There is one place, and the first task's server lets it wait until the second one is prepared."""
    go_on, content = threading.Event(), "\n".join(map(json.dumps, ROWS)).encode()
    patient = dataclasses.replace(
        stage, access=Access(private_addresses=True), turns=Turns(places=asyncio.Semaphore(1))
    )

    def served(request: Request) -> Page:
        if request.path == "/slow.jsonl":
            assert go_on.wait(60)
        return Page((content,))

    async def scenario(site: Site) -> None:
        for name, task_id in (("slow", TASK), ("quick", OTHER)):
            url = f"{site.url}/{name}.jsonl"
            request = validate_request({"type": "instruct", "base": "tiny", "dataset": url, "hours": 0.1})
            draft(ledger, request, task_id=task_id)
        slow, quick = claimed(ledger, TaskState.DRAFT), claimed(ledger, TaskState.DRAFT)
        assert (slow.task.id, quick.task.id) == (TASK, OTHER)
        fetching = asyncio.create_task(patient.run(slow))
        await until(lambda: [request.path for request in site.requests] == ["/slow.jsonl"])
        await patient.run(quick)
        assert (found(ledger).state, found(ledger, OTHER).state) == (TaskState.DRAFT, TaskState.OPEN)
        go_on.set()
        await fetching
        assert found(ledger).state is TaskState.OPEN

    with loopback_site(served) as site:
        try:
            asyncio.run(scenario(site))
        finally:
            go_on.set()


def _dripping(go_on: threading.Event, content: bytes) -> Iterator[bytes]:
    """Far more than 16 KiB a second, and far less than a MiB: slow, and not to be given up as dead."""
    while not go_on.wait(0.02):
        yield b" " * 1024
    yield content


def _draft_of(ledger: Ledger, url: str, number: int) -> TaskId:
    request = validate_request({"type": "instruct", "base": "tiny", "dataset": url, "hours": 0.1})
    return ledger.tasks.create(TaskId(f"instruct-{number:012x}"), request, customer=f"c{number}", salt=SALT).id


def _engine(stage: PrepareStage, ledger: Ledger, *, places: int) -> StepEngine:
    return StepEngine(
        ledger,
        ChainView(FakeChain().gateway("validator"), SystemClock()),
        {TaskState.DRAFT: stage},
        owner="one",
        at_once={TaskState.DRAFT: places},
        one_per_customer=(TaskState.DRAFT,),
    )


def test_customers_with_slow_servers_in_all_places_hold_up_nobody(stage: PrepareStage, ledger: Ledger) -> None:
    """Sixteen of them, and two who come when no place is left; each of the two takes the place of one."""
    release, content = threading.Event(), "\n".join(map(json.dumps, ROWS)).encode()
    turns = Turns(FetchPlaces(16, turn_seconds=0.3, look_seconds=0.05))
    crowded = dataclasses.replace(stage, access=Access(private_addresses=True), turns=turns)

    def served(request: Request) -> Page:
        return Page(_dripping(release, content) if request.path.startswith("/slow") else (content,))

    async def scenario(site: Site) -> None:
        slow = [_draft_of(ledger, f"{site.url}/slow{number}.jsonl", number) for number in range(16)]
        async with running(engine := _engine(crowded, ledger, places=16)):
            await until(lambda: len(site.requests) == 16)
            quick = [_draft_of(ledger, f"{site.url}/quick.jsonl", number) for number in (16, 17)]
            engine.wake()
            await until(lambda: all(found(ledger, task_id).state is TaskState.OPEN for task_id in quick))
            told = [event for task_id in slow for event in ledger.events.of_task(task_id, name="task_postponed")]
            assert 1 <= len(told) <= 2  # no more than who waited: a place that is free again is one for the next
            assert "others wait for the place. Upload the files" in str(told[0].fields["problem"])
            release.set()
            gone = {event.task_id for event in told}
            rest = [task_id for task_id in slow if task_id not in gone]
            await until(lambda: all(found(ledger, task_id).state is TaskState.OPEN for task_id in rest))

    with loopback_site(served) as site:
        try:
            asyncio.run(scenario(site))
        finally:
            release.set()
