"""Rewards tried over the customers' API, programs in the real sandbox."""

from __future__ import annotations

import shutil

import pytest

from gradients.client.answers import ApiRefused
from gradients.client.api import MarketClient
from gradients.client.rewards import RewardTrial
from tests.e2e.api_market import Market, refusal_of

ROWS = ({"prompt": "What is 6 times 7?", "answer": "42"}, {"prompt": "And 2 times 3?", "answer": "6"})
NUMERIC = {"kind": "numeric_answer", "column": "answer", "weight": 3}
SHORT = {"kind": "length", "at_most": 5}


@pytest.fixture
def client(market: Market) -> MarketClient:
    opened = MarketClient(market.url, market.ledger.customers.issue("acme"))
    market.clients.callback(opened.__exit__)
    return opened


def trial(**changes: object) -> RewardTrial:
    return RewardTrial.model_validate(
        {"type": "grpo", "parameters": {"rewards": [NUMERIC, SHORT]}, "rows": ROWS, **changes}
    )


def test_rewards_judge_given_answers_one_by_one_and_together(client: MarketClient) -> None:
    """Weights 3 and 1: a right long answer has 3 of 4, a wrong short one 1 of 4."""
    verdict = client.try_rewards(trial(answers=[["It is of course 42", "41"], []]))
    assert verdict.rewards == ("numeric_answer", "length")
    right, wrong = verdict.rows[0].answers
    assert (wrong.scores, wrong.reward, wrong.failures) == ((0.0, 1.0), 0.25, ())
    assert right.scores[0] == 1.0
    assert right.reward == pytest.approx((3 + (right.scores[1] or 0.0)) / 4)
    assert (verdict.rows[1].prompt, verdict.rows[1].answers) == ("And 2 times 3?", ())


def test_without_answers_the_prompt_and_nothing_are_judged(client: MarketClient) -> None:
    verdict = client.try_rewards(trial())
    assert [[answer.answer for answer in row.answers] for row in verdict.rows] == [["", row["prompt"]] for row in ROWS]


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="programs need bubblewrap")
def test_a_function_that_fails_on_an_answer_says_how(client: MarketClient) -> None:
    source = "def reward(completion, prompt):\n    return 1 / (3 - completion.count('a'))\n"
    function = {"kind": "function", "source": source, "columns": []}
    verdict = client.try_rewards(trial(parameters={"rewards": [function]}, answers=[["aa", "aaa"], []]))
    fine, failed = verdict.rows[0].answers
    assert (fine.scores, failed.scores, failed.reward) == ((1.0,), (None,), 0.0)
    assert "division by zero" in failed.failures[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"type": "instruct"}, "have no rewards"),
        ({"type": "none"}, "There is no task type"),
        ({"parameters": {"rewards": []}}, "parameters.rewards"),
        ({"rows": [{"prompt": "?", "answer": "no number"}]}, "does not hold a number in rows 1"),
        ({"answers": [["42"]]}, "2 rows and 1 lists"),
        ({"answers": [["42"] * 5, []]}, "at most 4 answers"),
    ],
)
def test_what_cannot_be_tried_is_refused_with_the_reason(
    client: MarketClient, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(ApiRefused, match=said):
        client.try_rewards(trial(**changes))


def test_texts_that_nothing_can_hold_are_refused_by_the_schema(market: Market) -> None:
    """NUL and half a character, as JSON can spell them."""
    for text in ("a\\u0000", "\\ud800"):
        body = f'{{"type": "grpo", "parameters": {{"{text}": 1}}, "rows": [{{}}]}}'
        refusal_of(market.acme.post("/v1/rewards/try", content=body, headers={"Content-Type": "application/json"}), 422)


def test_a_trial_posts_nothing_and_takes_no_more_than_some_rows(market: Market, client: MarketClient) -> None:
    client.try_rewards(trial())
    body = {"type": "grpo", "parameters": {}, "rows": [{}] * 17}
    assert "rows" in refusal_of(market.acme.post("/v1/rewards/try", json=body), 422)["message"]
    assert market.ledger.tasks.count() == 0
