"""Tasks that go on from another task's winner."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gradients.bases.bases import BaseModels, digest_of
from gradients.domain.evaluation import Placing
from gradients.domain.json import Json, JsonObject
from gradients.domain.task import Hotkey, Parent, TaskId, TaskState
from gradients.errors import DatasetInvalid, DiskFull, JobFailed, ModelUnknown, TaskInvalid
from gradients.execution.inline import InlineExecutor
from gradients.execution.job import Job, ReportProgress
from gradients.record.terms import offer_of
from gradients.repo.store import ContentStore
from gradients.tasks.jobs.models import MAKE_BASE
from gradients.tasks.registry import validate_request
from tests.unit.validator.market import PREPARED, TASK, claimed, collected, found, tiny_bases
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.placings import add_placings
from validator.specs.continuing import base_of, check_room_beside
from validator.specs.intake import Intake
from validator.stages.prepare import PrepareStage

ALICE = Hotkey("5Alice")
PROJECTION = "model.layers.0.self_attn.q_proj"
ROWS = [{"instruction": f"Which letter has number {i}?", "output": f"It is letter {i}"} for i in range(80)]


@pytest.fixture
def bases(tmp_path: Path) -> BaseModels:
    return tiny_bases(tmp_path)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "validator")


@pytest.fixture
def stage(ledger: Ledger, bases: BaseModels, folders: Folders) -> PrepareStage:
    return PrepareStage(ledger, bases, ContentStore(folders.blobs), folders, InlineExecutor())


@pytest.fixture
def post(ledger: Ledger, bases: BaseModels, folders: Folders, tmp_path: Path) -> Callable[..., TaskId]:
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    intake = Intake(ledger, bases, folders, lambda: None)

    def posted(customer: str = "acme", **changes: Json) -> TaskId:
        spec: dict[str, Json] = {"type": "instruct", "dataset": str(tmp_path / "rows.jsonl"), "hours": 0.1}
        return intake.submit({**spec, "continues": TASK, **changes}, customer=customer).id

    return posted


def _scored(
    ledger: Ledger, bases: BaseModels, folders: Folders, *, won: bool = True, private: bool = True, kind: str = "chat"
) -> None:
    """A task of acme's that Alice has won, by an adapter of rank 2 on one projection, or that nobody has."""
    request = validate_request({"type": kind, "base": "tiny", "dataset": "hub:a/b", "hours": 1, "private": private})
    prepared = dataclasses.replace(PREPARED, base_digest=bases.resolve("tiny").digest)
    collected(ledger, [ALICE], request, prepared=prepared)
    repo = folders.submission(TASK, ALICE)
    repo.mkdir(parents=True)
    (repo / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 4}')
    factors = {"A": np.full((2, 48), 0.5, np.float32), "B": np.full((48, 2), 0.25, np.float32)}
    tensors = {f"base_model.model.{PROJECTION}.lora_{side}.weight": factor for side, factor in factors.items()}
    save_file(tensors, repo / "adapter_model.safetensors")
    lease = claimed(ledger, TaskState.COLLECTED).lease
    ledger.tasks.advance(lease, came_from=TaskState.COLLECTED, to=TaskState.MEASURED)
    claim = claimed(ledger, TaskState.MEASURED)
    placings = [Placing(ALICE, 1 if won else None, 1.0, 1.0, "")]
    ledger.tasks.advance(
        claim.lease,
        came_from=TaskState.MEASURED,
        to=TaskState.SCORED,
        also=lambda session: add_placings(session, claim.task, placings, rules_version=2, factor=1.0, now=1.0),
    )


def _prepare(stage: PrepareStage, ledger: Ledger) -> None:
    asyncio.run(stage.run(claimed(ledger, TaskState.DRAFT)))


def test_the_base_is_the_winner_in_its_base_and_its_digest_is_over_the_files_that_are_listed(
    ledger: Ledger, bases: BaseModels, folders: Folders, stage: PrepareStage, post: Callable[..., TaskId]
) -> None:
    _scored(ledger, bases, folders)
    task_id = post()
    _prepare(stage, ledger)
    task = found(ledger, task_id)
    old, new, parent = bases.resolve("tiny"), base_of(task, bases, folders), task.data.parent
    assert isinstance(parent, Parent)
    assert (parent.task_id, parent.hotkey, parent.manifest_sha256) == (TASK, ALICE, "f" * 64)
    assert (parent.base_digest, task.data.base_digest) == (old.digest, new.digest)
    assert digest_of({path: blob.sha256 for path, blob in parent.files}) == new.digest != old.digest
    assert task.data.base_parameters == new.parameters == old.parameters
    before, after = (load_file(each.folder / "model.safetensors") for each in (old, new))
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {f"{PROJECTION}.weight"}
    # two of rank times scale 4/2 times 0.5 times 0.25, in half precision
    difference = after[f"{PROJECTION}.weight"].astype(np.float32) - before[f"{PROJECTION}.weight"].astype(np.float32)
    assert np.allclose(difference, 0.5, atol=1e-3)


def test_miners_are_told_whose_winner_it_is_and_get_its_files_while_the_task_runs(
    ledger: Ledger, bases: BaseModels, folders: Folders, stage: PrepareStage, post: Callable[..., TaskId]
) -> None:
    _scored(ledger, bases, folders)
    task_id = post()
    _prepare(stage, ledger)
    data = found(ledger, task_id).data
    offer = offer_of(found(ledger, task_id))
    assert (offer.base, offer.base_digest) == (f"task:{TASK}", data.base_digest)
    files = {blob.sha256 for _, blob in data.parent.files} if data.parent else set()
    assert ledger.tasks.published_blobs() == {data.train.sha256} | files
    assert all(stage.store.has(sha256) for sha256 in files)


def test_a_continued_task_can_be_continued_and_tells_where_it_comes_from(
    ledger: Ledger, bases: BaseModels, folders: Folders, post: Callable[..., TaskId]
) -> None:
    _scored(ledger, bases, folders)
    child, other = post(), post(type="instruct")
    grandchild = TaskId("instruct-00000000000c")
    request = validate_request({"type": "instruct", "continues": child, "dataset": "hub:a/b", "hours": 1})
    ledger.tasks.create(grandchild, request, customer="acme", salt=b"s" * 32)
    assert [each.id for each in ledger.tasks.lineage(found(ledger, grandchild))] == [TASK, child]
    assert ledger.tasks.lineage(found(ledger)) == []
    assert set(ledger.tasks.continuations(TASK)) == {child, other}


@dataclasses.dataclass
class Watched:
    """Runs jobs as usual, and keeps which; of one function the worker fails once its work is done, as ours may."""

    fails: str = ""
    functions: list[str] = dataclasses.field(default_factory=list)

    async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
        self.functions.append(job.function)
        result = await InlineExecutor().run(job, report=report)
        if job.function == self.fails:
            raise JobFailed("The worker ended", code="job_crashed")
        return result


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_no_base_is_made_for_data_that_cannot_be_used(
    ledger: Ledger, bases: BaseModels, folders: Folders, stage: PrepareStage, post: Callable[..., TaskId]
) -> None:
    """It may be as large as the disk, and a spec that costs nothing must not bring that about."""
    _scored(ledger, bases, folders)
    task_id, executor = post(dataset="http://127.0.0.1:9/rows.jsonl"), Watched()
    with pytest.raises(DatasetInvalid):
        _prepare(dataclasses.replace(stage, executor=executor), ledger)
    assert executor.functions == []
    assert _left(folders.task(task_id)) == []


def test_a_base_that_its_rows_cannot_be_tried_with_is_not_kept(
    ledger: Ledger, bases: BaseModels, folders: Folders, stage: PrepareStage, post: Callable[..., TaskId]
) -> None:
    config = bases.resolve("tiny").folder / "tokenizer_config.json"
    demanding = "{{ raise_exception('a system message must come first') }}"
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": demanding}))
    _scored(ledger, bases, folders)
    task_id, executor = post(), Watched()
    with pytest.raises(TaskInvalid, match="a system message must come first"):
        _prepare(dataclasses.replace(stage, executor=executor), ledger)
    assert MAKE_BASE in executor.functions
    assert _left(folders.task(task_id)) == []
    assert stage.store.sizes() == {}


def test_when_our_own_worker_fails_what_it_said_stays_and_what_it_made_goes(
    ledger: Ledger, bases: BaseModels, folders: Folders, stage: PrepareStage, post: Callable[..., TaskId]
) -> None:
    _scored(ledger, bases, folders)
    task_id = post()
    with pytest.raises(JobFailed):
        _prepare(dataclasses.replace(stage, executor=Watched(fails=MAKE_BASE)), ledger)
    left = _left(folders.task(task_id))
    assert "job.json" in left
    assert not {"model.safetensors", "train.jsonl", "held_out.jsonl"} & set(left)


def test_room_is_asked_for_the_base_twice_before_it_is_made(bases: BaseModels, tmp_path: Path) -> None:
    """Where a worker makes it and in the store: a base of all that is free finds none. The file has a size and no bytes."""
    old = dataclasses.replace(bases.resolve("tiny"), folder=tmp_path / "large")
    old.folder.mkdir()
    check_room_beside(old, tmp_path / "new" / "base")
    with (old.folder / "model.safetensors").open("wb") as file:
        file.truncate(int(0.6 * shutil.disk_usage(tmp_path).free))
    with pytest.raises(DiskFull):
        check_room_beside(old, tmp_path / "new" / "base")


def test_it_does_not_depend_on_how_long_the_winner_is_kept(
    ledger: Ledger, bases: BaseModels, folders: Folders, stage: PrepareStage, post: Callable[..., TaskId]
) -> None:
    _scored(ledger, bases, folders)
    task_id = post()
    _prepare(stage, ledger)
    shutil.rmtree(folders.task(TASK))
    assert base_of(found(ledger, task_id), bases, folders).digest == found(ledger, task_id).data.base_digest
    shutil.rmtree(folders.base(task_id))
    with pytest.raises(ModelUnknown) as caught:
        base_of(found(ledger, task_id), bases, folders)
    assert caught.value.code == "base_gone"


@pytest.mark.parametrize(
    ("parent", "changes", "code"),
    [
        ({}, {"customer": "others"}, "parent_unknown"),
        ({}, {"continues": "instruct-000000000000"}, "parent_unknown"),
        ({}, {"continues": None, "base": f"task:{TASK}@{'a' * 64}"}, "parent_unknown"),
        ({"won": False}, {}, "parent_without_model"),
        ({}, {"private": False}, "parent_private"),
        ({}, {"type": "diffusion"}, "parent_other_kind"),
        ({}, {"base": "tiny"}, "task_invalid"),
        ({}, {"continues": None}, "task_invalid"),
    ],
)
def test_what_cannot_be_gone_on_from_leaves_no_task(
    ledger: Ledger,
    bases: BaseModels,
    folders: Folders,
    post: Callable[..., TaskId],
    parent: dict[str, bool],
    changes: dict[str, str],
    code: str,
) -> None:
    _scored(ledger, bases, folders, **parent)  # type: ignore[arg-type] # of the cases above
    with pytest.raises(TaskInvalid) as caught:
        post(**changes)
    assert (caught.value.code, ledger.tasks.count()) == (code, 1)


def test_a_task_that_is_not_scored_and_one_whose_files_have_gone_are_told_apart(
    ledger: Ledger, bases: BaseModels, folders: Folders, stage: PrepareStage, post: Callable[..., TaskId]
) -> None:
    _scored(ledger, bases, folders)
    draft = post()
    with pytest.raises(TaskInvalid) as caught:
        post(continues=draft)
    assert caught.value.code == "parent_not_scored"
    shutil.rmtree(folders.submission(TASK, ALICE))
    with pytest.raises(TaskInvalid) as caught:
        post()
    assert caught.value.code == "parent_gone"
    with pytest.raises(TaskInvalid) as caught:  # between posting and preparing, too
        _prepare(stage, ledger)
    assert caught.value.code == "parent_gone"
