"""Synthetic tasks: when one is due, what it is, that mixes hold, and that a slot has one task however often the validator starts."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from gradients.bases.bases import BaseModels
from gradients.clock import SystemClock
from gradients.domain.task import Task, TaskId, TaskRequest, TaskState
from gradients.errors import LedgerConflict, SetupError
from gradients.scoring.contest import SCHEDULED
from gradients.tasks.mix import draw
from gradients.tasks.registry import all_types, validate_request
from gradients.testing.clock import HandClock
from tests.unit.validator.market import NOWHERE, claimed, request_for, tiny_bases
from validator.ledger import Ledger
from validator.ledger.slots import take_slot
from validator.schedule import Schedule, due_at, next_spec, slot_at
from validator.settings import (
    HoursShare,
    PooledDataset,
    PooledModel,
    ScheduleSettings,
    SizeShare,
    TypeShare,
    ValidatorSettings,
)
from validator.specs.intake import Intake

HOUR = 3600.0
ROUNDING = 1e-6
REWARDED: dict[str, JsonValue] = {"rewards": [{"kind": "length", "at_most": 9}]}
POOL = ScheduleSettings(
    every_hours=1,
    types=(TypeShare(type="instruct", share=0.5), TypeShare(type="chat", share=0.3), TypeShare(type="dpo", share=0.2)),
    sizes=(SizeShare(up_to_billions=1, share=0.75), SizeShare(up_to_billions=8, share=0.25)),
    hours=(HoursShare(hours=1, share=0.8), HoursShare(hours=3, share=0.2)),
    models=(
        PooledModel(base="acme/small", billions=0.5),
        PooledModel(base="acme/little", billions=0.6),
        PooledModel(base="acme/large", billions=7),
    ),
    datasets=(
        PooledDataset(type="instruct", dataset="hub:acme/questions"),
        PooledDataset(type="instruct", dataset="hub:acme/others"),
        PooledDataset(type="chat", dataset="hub:acme/talks"),
    ),
)
TINY = POOL.model_copy(
    update={
        "types": (TypeShare(type="instruct", share=1),),
        "models": (PooledModel(base="tiny", billions=0.0001),),
    }
)


def _posted(pool: ScheduleSettings, slots: int, *, seed: int = 3) -> list[TaskRequest]:
    """What the schedule asks for in so many slots, newest first."""
    past: list[TaskRequest] = []
    for slot in range(slots):
        spec = next_spec(pool, past, slot=slot, seed=seed)
        assert spec is not None
        past.insert(0, validate_request(spec))
    return past


# ---- what comes next


def test_types_sizes_and_hours_each_keep_to_their_mix() -> None:
    """dpo has no data set, so the others share the whole: 5/8 and 3/8."""
    past = _posted(POOL, 80)
    assert Counter(r.type for r in past) == pytest.approx({"instruct": 50, "chat": 30}, abs=1)
    assert Counter(r.hours for r in past) == pytest.approx({1: 64, 3: 16}, abs=1)
    bases = Counter(r.base for r in past)
    assert bases["acme/large"] == pytest.approx(20, abs=1)
    assert bases["acme/small"] == pytest.approx(bases["acme/little"], abs=1)


def test_data_sets_of_a_type_take_turns() -> None:
    used = Counter(str(r.dataset["repo"]) for r in _posted(POOL, 80) if r.type == "instruct")
    assert used["acme/questions"] == pytest.approx(used["acme/others"], abs=1)


SHARES = st.dictionaries(st.text(max_size=3), st.floats(min_value=0.01, max_value=10.0), min_size=1, max_size=6)


@settings(deadline=None)
@given(shares=SHARES, seed=st.integers(), draws=st.integers(min_value=1, max_value=300))
def test_no_count_is_ever_more_than_one_above_its_share(shares: dict[str, float], seed: int, draws: int) -> None:
    counts, rng = Counter[str](), random.Random(seed)
    for number in range(1, draws + 1):
        counts[draw(shares, counts, rng)] += 1
        for key, share in shares.items():
            expected = number * share / sum(shares.values())  # of floats, so not exact
            assert counts[key] <= expected + 1 + ROUNDING
            assert counts[key] >= expected - (len(shares) - 1) - ROUNDING


@given(seeds=st.sets(st.integers(), min_size=30, max_size=30))
def test_nobody_foresees_what_comes_next(seeds: set[int]) -> None:
    kinds = {str(spec["type"]) for seed in seeds if (spec := next_spec(POOL, [], slot=5, seed=seed))}
    assert kinds == {"instruct", "chat"}


def test_the_same_past_slot_and_seed_ask_for_the_same() -> None:
    assert _posted(POOL, 10) == _posted(POOL, 10)
    assert _posted(POOL, 10) != _posted(POOL, 10, seed=4)


def test_a_model_is_taken_for_its_own_types_only() -> None:
    painter = PooledModel(base="acme/painter", billions=0.5, types=("diffusion",))
    past = _posted(POOL.model_copy(update={"models": (painter, POOL.models[2])}), 8)
    assert {request.base for request in past} == {"acme/large"}


def test_a_model_that_names_no_types_is_taken_for_those_of_its_family() -> None:
    """A text model for a picture task would fail only when its task is prepared, and waste the slot."""
    types = (TypeShare(type="diffusion", share=0.5), TypeShare(type="chat", share=0.5))
    models = (POOL.models[0], PooledModel(base="acme/painter", billions=0.5, family="image"))
    pictures = PooledDataset(type="diffusion", dataset="hub:acme/pictures")
    update = {"types": types, "models": models, "datasets": (*POOL.datasets, pictures)}
    past = _posted(POOL.model_copy(update=update), 20)
    assert {(request.type, request.base) for request in past} == {
        ("diffusion", "acme/painter"),
        ("chat", "acme/small"),
    }
    text_only = POOL.model_copy(update={**update, "models": models[:1]})
    assert {request.type for request in _posted(text_only, 20)} == {"chat"}


def test_types_keep_to_the_shares_that_they_declare_unless_the_operator_says_otherwise() -> None:
    """rag has no data set; the other two share the whole: 0.28 / (0.28 + 0.04) is seven eighths."""
    datasets = (
        PooledDataset(type="instruct", dataset="hub:acme/questions"),
        PooledDataset(type="grpo", dataset="hub:acme/sums", parameters=REWARDED),
    )
    declared = POOL.model_copy(update={"types": ScheduleSettings().types, "datasets": datasets})
    assert Counter(r.type for r in _posted(declared, 80)) == pytest.approx({"instruct": 70, "grpo": 10}, abs=1)
    told = declared.model_copy(update={"types": (TypeShare(type="grpo", share=1),)})
    assert {r.type for r in _posted(told, 8)} == {"grpo"}


def test_the_declared_shares_of_the_schedule_sum_to_one() -> None:
    assert sum(kind.schedule_share for kind in all_types()) == pytest.approx(1.0)


def test_what_is_larger_than_every_size_counts_as_the_largest() -> None:
    giant = POOL.model_copy(update={"models": (*POOL.models[:1], PooledModel(base="acme/giant", billions=400))})
    assert Counter(r.base for r in _posted(giant, 40))["acme/giant"] == pytest.approx(10, abs=1)


@pytest.mark.parametrize("part", ["models", "datasets"])
def test_a_pool_without_models_or_without_data_has_nothing_to_ask_for(part: str) -> None:
    assert next_spec(POOL.model_copy(update={part: ()}), [], slot=0, seed=0) is None


# ---- when


@given(slot=st.integers(min_value=0, max_value=10**6), seed=st.integers())
def test_a_slots_moment_lies_in_its_first_half(slot: int, seed: int) -> None:
    moment = due_at(slot, every_seconds=HOUR, seed=seed)
    assert slot_at(moment, every_seconds=HOUR) == slot
    assert moment - slot * HOUR <= HOUR / 2


@pytest.fixture
def bases(tmp_path: Path) -> BaseModels:
    return tiny_bases(tmp_path)


def _schedule(
    ledger: Ledger, bases: BaseModels, clock: HandClock, pool: ScheduleSettings = TINY, *, seed: int = 1
) -> Schedule:
    return Schedule(ledger, Intake(ledger, bases, NOWHERE, lambda: None), clock, pool, seed)


def _end(ledger: Ledger) -> None:
    """Whatever runs has ended."""
    while (claim := ledger.tasks.claim([TaskState.DRAFT], owner="test", block=0, lease_seconds=10**6)) is not None:
        ledger.tasks.advance(claim.lease, came_from=TaskState.DRAFT, to=TaskState.FAILED)


def _tasks(ledger: Ledger) -> list[Task]:
    return list(ledger.tasks.list(customer=SCHEDULED))


def test_a_slot_has_one_task_however_often_the_validator_starts(
    ledger: Ledger, bases: BaseModels, clock: HandClock
) -> None:
    clock.time = 100.9 * HOUR
    for seed in range(3):  # a validator draws a new seed whenever it starts
        posted = _schedule(ledger, bases, clock, seed=seed).post_if_due()
        assert (posted is not None) == (seed == 0)
        _end(ledger)
    clock.time += HOUR
    assert _schedule(ledger, bases, clock, seed=9).post_if_due() is not None
    assert len(_tasks(ledger)) == 2


def test_two_validators_on_one_ledger_post_one_task(ledger: Ledger, bases: BaseModels, clock: HandClock) -> None:
    """Both looked before either wrote: the second one's task goes away with its slot."""
    clock.time = 100.9 * HOUR
    assert _schedule(ledger, bases, clock).post_if_due() is not None
    task_id = TaskId("instruct-aaaaaaaaaaaa")
    with pytest.raises(LedgerConflict):
        ledger.tasks.create(
            task_id,
            request_for(),
            customer=SCHEDULED,
            salt=b"s" * 32,
            also=lambda session: take_slot(session, 100, task_id),
        )
    assert ledger.tasks.find(task_id) is None
    assert len(_tasks(ledger)) == 1


def test_nothing_is_posted_before_the_moment_nor_while_a_customers_task_runs(
    ledger: Ledger, bases: BaseModels, clock: HandClock
) -> None:
    schedule = _schedule(ledger, bases, clock)
    clock.time = due_at(100, every_seconds=HOUR, seed=1) - 1
    assert schedule.post_if_due() is None
    schedule.intake.submit(
        {"type": "instruct", "base": "tiny", "dataset": "hub:acme/rows", "hours": 1}, customer="acme"
    )
    clock.time += 2
    assert schedule.post_if_due() is None
    _end(ledger)
    assert schedule.post_if_due() is not None


def test_more_tasks_run_at_once_when_the_operator_says_so(ledger: Ledger, bases: BaseModels, clock: HandClock) -> None:
    schedule = _schedule(ledger, bases, clock, TINY.model_copy(update={"at_once": 2}))
    for slot in (100, 101, 102):
        clock.time = (slot + 0.9) * HOUR
        schedule.post_if_due()
    assert len(_tasks(ledger)) == 2
    assert ledger.tasks.running() == 2


def test_a_schedule_that_is_off_posts_nothing(ledger: Ledger, bases: BaseModels, clock: HandClock) -> None:
    off = ScheduleSettings(models=TINY.models, datasets=TINY.datasets)
    assert _schedule(ledger, bases, clock, off).post_if_due() is None


@pytest.mark.parametrize("change", [{"models": (PooledModel(base="acme..nothing", billions=1),)}, {"datasets": ()}])
def test_a_pool_that_does_not_work_costs_its_slot_and_no_more(
    ledger: Ledger, bases: BaseModels, clock: HandClock, change: dict[str, object]
) -> None:
    schedule = _schedule(ledger, bases, clock, TINY.model_copy(update=change))
    clock.time = 100.9 * HOUR
    assert schedule.post_if_due() is None
    assert schedule.given_up == {100}
    assert not ledger.slots.taken(100)  # so that it is tried again after a restart


def test_to_miners_a_synthetic_task_looks_like_any_other(ledger: Ledger, bases: BaseModels, clock: HandClock) -> None:
    clock.time = 100.9 * HOUR
    task = _schedule(ledger, bases, clock).post_if_due()
    assert task is not None
    kind, _, number = task.id.partition("-")
    assert kind == task.request.type
    assert len(bytes.fromhex(number)) == 6
    assert claimed(ledger, TaskState.DRAFT).task == task


# ---- settings


def test_the_pool_is_written_as_tables(tmp_path: Path) -> None:
    file = tmp_path / "validator.toml"
    file.write_text(
        "[schedule]\nevery_hours = 2\n"
        '[[schedule.models]]\nbase = "nano-lm"\nbillions = 0.0015\n'
        '[[schedule.datasets]]\ntype = "instruct"\ndataset = "hub:acme/rows"\nparameters = {columns = {output = "answer"}}\n'
    )
    pool = ValidatorSettings.load(file, {}).schedule
    spec = next_spec(pool, [], slot=0, seed=0)
    assert spec is not None
    request = validate_request(spec)
    assert (request.base, request.parameters["columns"]) == (
        "nano-lm",
        {"instruction": "instruction", "output": "answer", "input": None, "system": None},
    )


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("datasets", 'type = "chant"\ndataset = "hub:acme/rows"'),
        ("models", 'base = "tiny"\nbillions = 1\ntypes = ["chant"]'),
        ("types", 'type = "chant"\nshare = 1'),
    ],
)
def test_a_pool_of_an_unknown_type_is_a_mistake_in_the_settings(tmp_path: Path, table: str, line: str) -> None:
    file = tmp_path / "validator.toml"
    file.write_text(f"[[schedule.{table}]]\n{line}\n")
    with pytest.raises(SetupError, match="there is no task type 'chant'"):
        ValidatorSettings.load(file, {})


def test_slots_outlive_the_process(tmp_path: Path, bases: BaseModels) -> None:
    clock = HandClock(100.9 * HOUR)
    for posted in (1, 1):
        ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db", SystemClock())
        _schedule(ledger, bases, clock).post_if_due()
        assert len(_tasks(ledger)) == posted
        _end(ledger)
        ledger.engine.dispose()
