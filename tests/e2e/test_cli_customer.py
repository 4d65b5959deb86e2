"""The customers' commands on limits, keys, rewards and events, against a served API."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gradients.cli.task import app
from gradients.client.answers import ApiRefused
from gradients.domain.customer import Scope
from tests.e2e.api_market import Market

ROWS = [{"prompt": "What is 6 times 7?", "answer": "42"}, {"prompt": "And 2 times 3?", "answer": "6"}]
REWARDS = 'rewards=[{"kind": "numeric_answer", "column": "answer"}]'


def task(market: Market, *arguments: str, scopes: tuple[Scope, ...] = tuple(Scope), key: str = "") -> str:
    """What `gradients task …` prints; a failure is raised as it is."""
    key = key or market.ledger.customers.issue("acme", scopes=scopes)
    run = CliRunner().invoke(app, [*arguments, "--api-url", market.url, "--api-key", key], catch_exceptions=False)
    assert run.exit_code == 0, run.output
    return run.stdout


def test_keys_are_made_listed_and_revoked(market: Market) -> None:
    made = task(market, "key", "make", "--name", "nightly", "--scope", "read", "--days", "2").strip()
    assert made.startswith("gr_")
    [listed] = [line for line in task(market, "key", "list").splitlines() if "nightly" in line]
    key_id, name, scopes, state, *_ = listed.split()
    assert (name, scopes, state) == ("nightly", "read", "until")
    assert f"key {key_id} nightly (read)" in task(market, "account", key=made)
    assert json.loads(task(market, "key", "revoke", key_id, "--json"))["revoked_at"] is not None
    with pytest.raises(ApiRefused, match="opens nothing"):
        task(market, "account", key=made)
    assert re.search(f"{key_id} .*revoked", task(market, "key", "list"))


def test_making_keys_wants_the_scope_for_it(market: Market) -> None:
    with pytest.raises(ApiRefused) as caught:
        task(market, "key", "make", scopes=(Scope.READ,))
    assert caught.value.code == "scope_missing"
    run = CliRunner().invoke(app, ["key", "make", "--scope", "root"])
    assert (run.exit_code, "choose from read, submit, admin" in " ".join(run.stderr.split())) == (2, True)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_rewards_are_tried_on_the_first_rows_of_a_file(market: Market, tmp_path: Path, name: str) -> None:
    """42 is right for the first row and wrong for the second."""
    file = tmp_path / name
    lines = ["prompt,answer", *(",".join(row.values()) for row in ROWS)]
    file.write_text("\n".join(map(json.dumps, ROWS) if name.endswith("jsonl") else lines))
    given = ("rewards", "--type", "grpo", "--set", REWARDS, "--rows", str(file), "--answer", "It is 42")
    assert task(market, *given).splitlines() == [
        "row 1: What is 6 times 7?",
        "  1.000  It is 42  [numeric_answer 1]",
        "row 2: And 2 times 3?",
        "  0.000  It is 42  [numeric_answer 0]",
    ]
    verdict = json.loads(task(market, *given, "--first", "1", "--json"))
    assert [[answer["reward"] for answer in row["answers"]] for row in verdict["rows"]] == [[1.0]]


def test_events_are_told_until_a_task_has_ended_and_go_on_behind_the_last(market: Market) -> None:
    task_id = market.posted_task()
    market.acme.post(f"/v1/tasks/{task_id}/cancel")
    lines = task(market, "events", task_id).splitlines()
    assert [line.split(maxsplit=3)[3] for line in lines] == ["created draft", "state cancelled"]
    first = lines[0].split()[0]
    [rest] = task(market, "events", task_id, "--after", first, "--json").splitlines()
    assert json.loads(rest)["state"] == "cancelled"


def test_a_command_that_is_given_again_with_its_key_posts_one_task(market: Market) -> None:
    given = ("submit", "--type", "instruct", "--base", "tiny", "--dataset", "hub:acme/rows", "--hours", "1")
    first, again = (task(market, *given, "--idempotency-key", "mine").splitlines()[-1] for _ in range(2))
    assert first == again
    assert market.ledger.tasks.count() == 1
