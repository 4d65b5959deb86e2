"""The ledger's counts, as the figures that they become."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from gradients.domain.failure import Failure
from gradients.domain.task import TaskId, TaskState
from gradients.errors import Blame
from gradients.testing.clock import HandClock
from tests.unit.validator.market import WINDOW, Subnet, assigned, claimed, draft
from validator.figures import Figures
from validator.ledger import Ledger


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"gradients_{name}", labels)


@pytest.fixture
def figures(database_url: str, clock: HandClock) -> Figures:
    ledger, subnet = Ledger.open(database_url, clock), Subnet(clock)
    asyncio.run(_begin(subnet))
    return Figures(ledger, subnet.view, subnet.gateway.hotkey)


async def _begin(subnet: Subnet) -> None:
    await subnet.start()
    await subnet.reach(WINDOW.deadline_block + 1)


def test_an_empty_ledger_is_zeros_and_not_gaps(figures: Figures) -> None:
    figures.take()
    assert [value("tasks", state=state.value) for state in TaskState] == [0] * len(TaskState)
    assert value("leases") == value("leases_lapsed") == value("weights_calls", state="done") == 0
    assert value("task_oldest_seconds", state="open") == 0
    figures.ledger.engine.dispose()


def test_tasks_leases_failures_and_ages_are_counted(figures: Figures, clock: HandClock) -> None:
    ledger = figures.ledger
    assigned(ledger, ["alice", "bob"])
    lease = claimed(ledger, TaskState.ASSIGNED).lease
    before = {blame: value("submission_failures_total", blame=blame.value) or 0 for blame in Blame}
    ledger.submissions.failed(lease, "alice", Failure(Blame.MINER, "not_revealed", "nothing came"))
    rises = {blame: (value("submission_failures_total", blame=blame.value) or 0) - before[blame] for blame in Blame}
    assert rises == {blame: int(blame is Blame.MINER) for blame in Blame}
    clock.time += 10  # of a lease of 15
    draft(ledger, task_id=TaskId("instruct-00000000000a"))
    clock.time += 2
    draft(ledger, task_id=TaskId("instruct-00000000000b"))
    figures.take()
    assert (value("tasks", state="assigned"), value("tasks", state="draft"), value("tasks", state="open")) == (1, 2, 0)
    assert (value("task_oldest_seconds", state="assigned"), value("task_oldest_seconds", state="draft")) == (12, 2)
    assert (value("tasks_due", state="draft"), value("tasks_due", state="assigned")) == (2, 0)
    assert (value("leases"), value("leases_lapsed")) == (1, 0)
    clock.time += 4
    figures.take()
    assert (value("leases"), value("leases_lapsed"), value("tasks_due", state="assigned")) == (0, 1, 1)
    ledger.engine.dispose()


def test_how_long_our_weights_have_stood_is_told_in_blocks(figures: Figures) -> None:
    figures.take()
    graph = figures.view.metagraph()
    ours = graph.by_hotkey(figures.hotkey)
    assert ours is not None
    assert value("weights_age_blocks") == figures.view.block - ours.last_update_block > 0
    assert value("weights_cutoff_blocks") == graph.activity_cutoff_blocks
    figures.ledger.engine.dispose()
