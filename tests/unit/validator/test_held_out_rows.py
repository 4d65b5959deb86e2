"""Held-out rows over the API: whose they are, from when on, in which order, and what is left of them later."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from gradients.bases.bases import BaseModels
from gradients.client.held_out import HeldOutRow, HeldOutRows
from gradients.domain.customer import Scope
from gradients.domain.evaluation import Metric
from gradients.domain.json import JsonObject
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import TaskState
from gradients.execution.inline import InlineExecutor
from gradients.repo.store import ContentStore
from gradients.scoring.contest import contest_seed
from gradients.scoring.row_order import places_of
from gradients.testing.clock import HandClock
from tests.unit.validator.exploring import ALICE, BASE, BOB, DEADLINE_HASH, OURS, ROWS, explored, row_page
from tests.unit.validator.market import TASK, request_for
from tests.unit.validator.paging import Served, served
from validator.api.held_out import cut
from validator.ledger import Ledger


@pytest.fixture
def pages(tmp_path: Path, ledger: Ledger, clock: HandClock) -> Served:
    return served(tmp_path, ledger, clock, executor=InlineExecutor(), bases=BaseModels(tmp_path, tmp_path))


@pytest.fixture
def key(pages: Served) -> str:
    return pages.ledger.customers.issue("acme", scopes=[Scope.READ])


def rows_in(page: JsonObject) -> list[dict[str, Any]]:
    return cast(list[dict[str, Any]], page["rows"])


def test_rows_come_by_what_the_winner_gains_or_loses_against_the_base(pages: Served, key: str) -> None:
    explored(pages, {BASE_ENTRANT: BASE, ALICE: OURS, BOB: BASE})
    gained = HeldOutRows.model_validate(row_page(pages, key))
    assert [(each.row, each.gain) for each in gained.rows] == [(1, 2.0), (4, 1.0), (3, 0.0), (2, -0.5)]
    assert (gained.miner, gained.total, gained.gained, gained.lost, gained.next) == (ALICE, 4, 2, 1, None)
    assert gained.rows[0].content == ROWS[0]
    assert (gained.rows[0].base, gained.rows[0].miners) == (3.0, {ALICE: 1.0, BOB: 3.0})
    assert [each["row"] for each in rows_in(row_page(pages, key, order="lost"))] == [2, 3, 4, 1]
    assert [each["row"] for each in rows_in(row_page(pages, key, order="file"))] == [1, 2, 3, 4]
    assert [each["gain"] for each in rows_in(row_page(pages, key, miner=BOB))] == [0.0] * 4


def test_where_higher_is_better_a_gain_is_more(pages: Served, key: str) -> None:
    explored(pages, {BASE_ENTRANT: BASE, ALICE: OURS}, metric=Metric("reward", "reward", 1, "higher"))
    assert [each["gain"] for each in rows_in(row_page(pages, key))] == [0.5, 0.0, -1.0, -2.0]


def test_pages_follow_one_another_without_a_gap(pages: Served, key: str) -> None:
    explored(pages, {BASE_ENTRANT: BASE, ALICE: OURS})
    seen, after = list[int](), 0
    while True:
        page = row_page(pages, key, after=after, limit=3)
        seen += [each["row"] for each in rows_in(page)]
        if page["next"] is None:
            break
        after = cast(int, page["next"])
    assert seen == [1, 4, 3, 2]
    assert row_page(pages, key, after=4)["rows"] == []


def test_whoever_stopped_early_is_shown_on_the_rows_that_its_race_had(pages: Served, key: str) -> None:
    first, second = places_of(contest_seed(TASK, DEADLINE_HASH), 4, known=2).tolist()
    explored(pages, {BASE_ENTRANT: BASE, ALICE: OURS, BOB: (0.25, 0.75)})
    shown = {each["row"]: each for each in rows_in(row_page(pages, key, miner=BOB, order="lost"))}
    assert {row: each["miners"].get(BOB) for row, each in shown.items() if BOB in each["miners"]} == {
        first + 1: 0.25,
        second + 1: 0.75,
    }
    assert {row for row, each in shown.items() if each["gain"] is None} == {1, 2, 3, 4} - {first + 1, second + 1}
    assert [each["gain"] is None for each in shown.values()] == [False, False, True, True]  # these come last


def test_nobody_has_won_so_the_best_result_is_shown(pages: Served, key: str) -> None:
    explored(pages, {BASE_ENTRANT: BASE, BOB: BASE, ALICE: OURS}, won=None)
    assert row_page(pages, key)["miner"] == ALICE


def test_a_task_in_which_the_base_alone_was_measured_has_rows_without_gains(pages: Served, key: str) -> None:
    explored(pages, {BASE_ENTRANT: BASE}, made_up=1)
    page = row_page(pages, key)
    assert (page["miner"], page["gained"], page["lost"]) == (None, 0, 0)
    assert [(each["row"], each["gain"], each["made_up"]) for each in rows_in(page)] == [
        (1, None, False),
        (2, None, False),
        (3, None, False),
        (4, None, True),
    ]


@pytest.mark.parametrize("private", [True, False])
def test_rows_are_the_customers_own_and_are_seen_by_it_when_the_task_is_scored(pages: Served, private: bool) -> None:
    digest = explored(
        pages,
        {BASE_ENTRANT: BASE, ALICE: OURS},
        request=replace(request_for(), private=private),
        state=TaskState.MEASURED,
    )
    issue = pages.ledger.customers.issue
    owner, rival, writer = issue("acme"), issue("rival"), issue("acme", scopes=[Scope.SUBMIT])
    paths = (f"/v1/tasks/{TASK}/rows", f"/v1/tasks/{TASK}/rows/1")
    with pages.visitor() as client:
        for path in paths:
            early = client.get(path, headers={"authorization": f"Bearer {owner}"})
            assert (early.status_code, early.json()["code"]) == (404, "not_found")
            assert "once it is scored" in early.json()["message"]
    with pages.ledger.engine.begin() as connection:  # the same task, scored
        connection.exec_driver_sql("UPDATE tasks SET state = 'scored'")
    with pages.visitor() as client:
        for path in paths:
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"authorization": f"Bearer {rival}"}).status_code == 404
            assert client.get(path, headers={"authorization": f"Bearer {writer}"}).status_code == 403
            assert client.get(path, headers={"authorization": f"Bearer {owner}"}).status_code == 200
        assert (
            client.get(f"/v1/record/blobs/{digest}").status_code == 404
        )  # a record opens a public task's rows, not this


def test_a_long_row_is_cut_in_the_list_and_whole_alone(pages: Served, key: str) -> None:
    long = {"prompt": "p" * 5_000, "passages": [f"passage {number}" for number in range(40)], "completion": "short"}
    explored(pages, {BASE_ENTRANT: BASE, ALICE: OURS}, [long, *ROWS[1:]])
    [first] = [each for each in rows_in(row_page(pages, key)) if each["row"] == 1]
    assert first["is_cut"] is True
    assert "(5,000 characters)" in first["content"]["prompt"]
    assert len(first["content"]["prompt"]) == 1_000
    assert first["content"]["passages"] == [f"passage {number}" for number in range(16)]
    with pages.visitor() as client:
        answer = client.get(f"/v1/tasks/{TASK}/rows/1", headers={"authorization": f"Bearer {key}"})
        whole = HeldOutRow.model_validate_json(answer.content)
        assert (whole.content, whole.is_cut, whole.gain) == (long, False, 2.0)
        for number, status in ((5, 404), (0, 422), (2**31, 422)):
            path = f"/v1/tasks/{TASK}/rows/{number}"
            assert client.get(path, headers={"authorization": f"Bearer {key}"}).status_code == status


def test_numbers_stay_when_the_rows_are_no_longer_kept(pages: Served, key: str) -> None:
    digest = explored(pages, {BASE_ENTRANT: BASE, ALICE: OURS})
    ContentStore(pages.folders.blobs).path(digest).unlink()
    page = row_page(pages, key)
    assert page["kept"] is False
    assert [(each["row"], each["gain"], each["content"]) for each in rows_in(page)][:2] == [
        (1, 2.0, None),
        (4, 1.0, None),
    ]


def test_a_miner_that_was_not_measured_is_said_to_be_none(pages: Served, key: str) -> None:
    explored(pages, {BASE_ENTRANT: BASE, ALICE: OURS})
    with pages.visitor() as client:
        for path in (f"/v1/tasks/{TASK}/rows", f"/v1/tasks/{TASK}/rows/1"):
            answer = client.get(path, params={"miner": BOB}, headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == 404
            assert f"no measured model of {BOB}" in answer.json()["message"]


def test_what_no_json_takes_and_bottomless_rows_are_shown_all_the_same() -> None:
    deep: object = "x"
    for _ in range(500):
        deep = [deep]
    shown = cut({"a\ud800": "\x00b", "deep": deep}, most=10, members=10)
    assert shown.is_cut
    assert json.dumps(shown.value).count("[") == 31
    assert cast(dict[str, Any], shown.value)["a\\ud800"] == "\\x00b"
